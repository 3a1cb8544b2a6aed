from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import trio.testing

from node.chat import render_wire
from node.chat.errors import GrammarRefused, RendererUnavailable, TemplateFailed
from node.chat.renderer import ChatRenderer, computing_time

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HELLO = {"messages": [{"role": "user", "content": "hello <&> 'é'"}], "bos_token": "<s>"}


def run(test: Callable[[ChatRenderer], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            async with ChatRenderer() as renderer:
                await test(renderer)

    trio.run(main)


def render(template: str, values: dict[str, Any] = HELLO) -> str:
    rendered = ""

    async def test(renderer: ChatRenderer) -> None:
        nonlocal rendered
        rendered = await renderer.render(template, values)

    run(test)
    return rendered


def pid_of(renderer: ChatRenderer) -> int:
    assert renderer._child is not None
    return renderer._child._process.pid


def test_the_child_learns_no_secret_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_NODE_API_KEY", "sesame")

    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("", {})
        assert "LOCALAI_NODE_API_KEY" not in psutil.Process(pid_of(renderer)).environ()

    run(test)


def test_a_child_is_ready_when_the_first_chat_comes() -> None:
    async def test(renderer: ChatRenderer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renderer.get_ready)
            await trio.testing.wait_all_tasks_blocked()
            assert renderer._child is None
            renderer.expect_chats()
        pid = pid_of(renderer)
        assert await renderer.render("{{ 1 + 1 }}", {}) == "2"
        assert pid_of(renderer) == pid

    run(test)


def test_one_that_does_not_get_ready_is_tried_again_with_the_first_chat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(renderer: ChatRenderer) -> None:
        renderer.expect_chats()
        with monkeypatch.context() as broken:
            broken.setattr("node.chat.renderer._COMMAND", (sys.executable, "-c", "exit(3)"))
            await renderer.get_ready()
        assert "the process that renders chat templates ended" in caplog.text
        assert await renderer.render("{{ 1 + 1 }}", {}) == "2"

    run(test)


def test_what_templates_use_is_there() -> None:
    template = (
        "{{ bos_token }}\n"
        "{%- for message in messages %}\n"
        "    {%- if loop.index > 1 %}{% break %}{% endif %}\n"
        "    {%- generation %}{{ message.content | tojson }}{% endgeneration %}\n"
        "{%- endfor %}\n"
        "{{- {'b': 1, 'a': [2]} | tojson(indent=1) }}|"
        "{{ strftime_now('%Y') | length }}|{{ undefined_thing }}|"
    )
    assert render(template) == '<s>"hello <&> \'é\'"{\n "b": 1,\n "a": [\n  2\n ]\n}|4||'


def test_a_format_string_reaches_nothing_that_an_expression_could_not() -> None:
    assert render("{{ '{0.__class__}|{0.real}'.format(1) }}") == "|1"


def test_blocks_leave_no_space_behind_as_templates_expect() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages.x.y }}", "has no attribute"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ range(10**9) | list }}", "too big"),
        ("{{ [] | tojson(indent=[]) }}", "can't multiply"),
        (r"{{ '\ud83d' }}", "surrogates"),
    ],
)
def test_a_template_that_fails_says_so_and_the_child_goes_on(template: str, says: str) -> None:
    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        pid = pid_of(renderer)
        with pytest.raises(TemplateFailed, match=says):
            await renderer.render(template, HELLO)
        assert await renderer.render("fine", {}) == "fine"
        assert pid_of(renderer) == pid

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot cap a process's memory this simply")
def test_memory_is_bounded() -> None:
    with pytest.raises(TemplateFailed, match="too much memory"):
        render("{{ 'a' * 10**9 }}")


def test_a_template_that_writes_more_than_a_frame_fails() -> None:
    with pytest.raises(TemplateFailed, match="frame"):
        render("{{ 'a' * 20000000 }}")


def test_messages_larger_than_a_frame_fail() -> None:
    with pytest.raises(TemplateFailed, match="too large"):
        render("{{ text }}", {"text": "x" * (render_wire.RENDER_FRAME_SIZE_MAX + 1)})


def test_an_endless_template_is_ended_and_the_next_one_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.chat.renderer.RENDER_TIMEOUT", 0.3)

    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        pid = pid_of(renderer)
        with pytest.raises(TemplateFailed, match="longer than 0"):
            await renderer.render(ENDLESS, {})
        assert not psutil.pid_exists(pid)
        assert await renderer.render("fine", {}) == "fine"

    run(test)


def test_only_what_the_child_itself_has_computed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where so many others want the machine that the child gets little of it."""
    monkeypatch.setattr("node.chat.renderer.RENDER_TIMEOUT", 0.1)
    looks = iter([0.5, 0.5, 0.51, 0.52, 0.61])
    monkeypatch.setattr("node.chat.renderer.computing_time", lambda _: next(looks))

    async def test(renderer: ChatRenderer) -> None:
        with pytest.raises(TemplateFailed, match=r"longer than 0\.1 s"):
            await renderer.render(ENDLESS, {})
        assert list(looks) == [], "it was ended by the clock"

    run(test)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be stopped there")
def test_a_good_template_is_rendered_however_late_the_child_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look(pid: int) -> float:
        nonlocal looks
        looks += 1
        if looks == 3:
            os.kill(pid, signal.SIGCONT)
        return computing_time(pid)

    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        monkeypatch.setattr("node.chat.renderer.RENDER_TIMEOUT", 0.1)
        monkeypatch.setattr("node.chat.renderer.computing_time", look)
        os.kill(pid_of(renderer), signal.SIGSTOP)
        assert await renderer.render("fine", {}) == "fine"
        assert looks >= 3

    run(test)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be stopped there")
def test_nobody_waits_for_ever_for_a_child_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        monkeypatch.setattr("node.chat.renderer.RENDER_WAIT_MAX", 0.2)
        os.kill(pid_of(renderer), signal.SIGSTOP)
        with pytest.raises(TemplateFailed, match=r"not done within 0\.2 s"):
            await renderer.render("fine", {})

    run(test)


def test_a_grammar_that_can_be_run_passes() -> None:
    pytest.importorskip("llguidance")

    async def test(renderer: ChatRenderer) -> None:
        await renderer.check_grammar('start: %json {"type": "object"}')
        assert "start: " in await renderer.lark_of_gbnf('root ::= "a"+')

    run(test)


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("start: nobody", "unknown name"),
        ('start: %json {"not": {}}', "Unimplemented keys"),
        ('start: %json {"$ref": "#"}', "no answer"),
        ("start: " + "(" * 100_000, "nested"),
        ("x" * (render_wire.RENDER_FRAME_SIZE_MAX + 1), "too large"),
    ],
)
def test_a_grammar_that_cannot_says_so_and_the_next_is_checked(grammar: str, says: str) -> None:
    pytest.importorskip("llguidance")

    async def test(renderer: ChatRenderer) -> None:
        with pytest.raises(GrammarRefused, match=says) as caught:
            await renderer.check_grammar(grammar)
        assert "\n" not in str(caught.value)
        await renderer.check_grammar('start: "a"')

    run(test)


def test_a_grammar_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance")

    async def test(renderer: ChatRenderer) -> None:
        await renderer.check_grammar('start: "a"')
        pid = pid_of(renderer)
        monkeypatch.setattr("node.chat.renderer.RENDER_TIMEOUT", 0.3)
        with pytest.raises(GrammarRefused, match="longer than 0"):
            await renderer.check_grammar('start: %json {"type": "integer", "multipleOf": 999983}')
        assert not psutil.pid_exists(pid)

    run(test)


def test_a_grammar_that_passed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance")
    monkeypatch.setattr("node.chat.renderer._PASSED_MAX", 2)

    async def test(renderer: ChatRenderer) -> None:
        asked = []
        ask = renderer._ask

        async def noted(request: Mapping[str, Any]) -> str:
            asked.append(request["grammar"])
            return await ask(request)

        monkeypatch.setattr(renderer, "_ask", noted)
        # "b" is the one used longest ago when "c" comes.
        for letter in "abacacb":
            await renderer.check_grammar(f'start: "{letter}"')
        assert [grammar[-2] for grammar in asked] == list("abcb")

    run(test)


def test_a_grammar_of_llama_cpp_that_does_not_parse_says_so() -> None:
    pytest.importorskip("llguidance")

    async def test(renderer: ChatRenderer) -> None:
        with pytest.raises(GrammarRefused, match="nobody"):
            await renderer.lark_of_gbnf("root ::= nobody")

    run(test)


def test_without_the_library_another_node_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "llguidance.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))

    async def test(renderer: ChatRenderer) -> None:
        with pytest.raises(RendererUnavailable, match="llguidance"):
            await renderer.check_grammar('start: "a"')
        with pytest.raises(RendererUnavailable, match="llguidance"):
            await renderer.lark_of_gbnf('root ::= "a"')
        assert await renderer.render("fine", {}) == "fine"

    run(test)


def test_a_child_that_died_is_replaced() -> None:
    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        os.kill(pid_of(renderer), signal.SIGTERM)
        assert renderer._child is not None
        await renderer._child._process.wait()
        assert await renderer.render("fine", {}) == "fine"

    run(test)


def test_a_cancelled_request_takes_no_answer_from_the_next() -> None:
    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        with trio.CancelScope() as scope:
            scope.cancel()
            await renderer.render("first", {})
        assert await renderer.render("second", {}) == "second"

    run(test)


def test_closing_ends_the_child() -> None:
    pids = []

    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})
        pids.append(pid_of(renderer))

    run(test)
    assert not psutil.pid_exists(pids[0])


def test_closing_ends_a_request_under_way() -> None:
    async def test(renderer: ChatRenderer) -> None:
        await renderer.render("warm", {})

        async def ask() -> None:
            with pytest.raises(RendererUnavailable):
                await renderer.render(ENDLESS, {})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await renderer.aclose()

    run(test)


def test_many_at_once_get_their_own_answers() -> None:
    async def test(renderer: ChatRenderer) -> None:
        async def ask(number: int) -> None:
            assert await renderer.render("{{ number }}", {"number": number}) == str(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)

    run(test)
