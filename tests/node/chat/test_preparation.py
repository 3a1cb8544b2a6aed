"""A whole request made ready for a model; grammars are tried by whatever the test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from federation.backend import Constraint, InferenceRequest, RequestId
from ledger.records import ModelName
from node.chat.call_ids import call_id
from node.chat.errors import BadChat, BadConstraint, BadTools, GrammarRefused
from node.chat.preparation import ModelTraits, PreparedChat, prepare_chat
from node.chat.render_child import _environment
from node.engine.wire import ModelFacts, PromptPart
from tests.node.chat.cutting import outcome

FACTS = ModelFacts(64, 99, None, "<s>", "</s>", ("<s>", "</s>"), (1, 2))
HERMES = (
    "{% if tools %}{{ tools | tojson }}\nUse <tool_call>.\n{% endif %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.arguments | tojson }}{% endfor %}</s>\n{% endfor %}"
    "assistant:"
)
LLAMA = HERMES.replace("<tool_call>", "<|python_tag|>") + "{# single tool-calls at once #}"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
THINKING = HERMES + "{% if 0 %}</think>{% endif %}"
JSON = Constraint("json_object")
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "Ends </s> turns.",
        "parameters": {"properties": {"city": {"type": "string"}}},
    },
}
OTHER = {"type": "function", "function": {"name": "g"}}


class Renderer:
    """Templates are rendered here and now; `refuse` says what is wrong with a grammar."""

    def __init__(self, refuse: Callable[[str], str | None] = lambda _: None) -> None:
        self._refuse = refuse
        self.checked: list[str] = []

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        await trio.lowlevel.checkpoint()
        return _environment().from_string(template).render(values)

    async def check_grammar(self, lark: str) -> None:
        await trio.lowlevel.checkpoint()
        self.checked.append(lark)
        if reason := self._refuse(lark):
            raise GrammarRefused(reason)

    async def lark_of_gbnf(self, gbnf: str) -> str:
        await trio.lowlevel.checkpoint()
        if gbnf == "wrong":
            raise GrammarRefused("it is wrong")
        return f"start: {gbnf}"


def prepare(template: str | None = HERMES, renderer: Renderer | None = None, **changes: Any) -> PreparedChat:
    request = InferenceRequest(
        kind="chat",
        request_id=RequestId("r1"),
        model=ModelName("m"),
        messages=[{"role": "user", "content": "Cold in Oslo?"}],
    )
    traits = ModelTraits(tool_format=changes.pop("tool_format", None), token_ids=changes.pop("token_ids", {}))
    facts = replace(FACTS, chat_template=template)
    # No deadline is pending while a thread works, so nothing is jumped over.
    return trio.run(
        prepare_chat,
        replace(request, **changes),
        facts,
        traits,
        renderer or Renderer(),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )


def refusal(*args: Any, **changes: Any) -> BadChat:
    with pytest.raises(BadChat) as caught:
        prepare(*args, **changes)
    assert str(caught.value).startswith(caught.value.param) or caught.value.param == "tool_choice"
    return caught.value


def test_a_plain_chat_is_held_to_nothing() -> None:
    prepared = prepare(PLAIN)
    assert prepared.prompt.text == "user: Cold in Oslo?\nassistant:"
    assert prepared.grammar is None
    assert prepared.shown_control_texts == frozenset()
    assert outcome(prepared.parser(0), ["Hello <tool_call>"]).content == "Hello <tool_call>"


def test_a_template_that_knows_tools_shows_them_and_no_token_in_them_counts() -> None:
    prepared = prepare(tools=[TOOL])
    assert '"description": "Ends </s> turns."' in prepared.prompt.text
    assert PromptPart("</s>", parse_special=False) in prepared.prompt.parts
    assert "You can call functions" not in prepared.prompt.text
    assert prepared.shown_control_texts == {"<tool_call>", "</tool_call>"}


def test_a_template_that_knows_none_gets_them_in_words() -> None:
    prepared = prepare(PLAIN, tools=[TOOL])
    assert prepared.prompt.text.startswith("system: You can call functions.")
    assert prepared.rules.format.name == "generic"
    assert PromptPart("</s>", parse_special=False) in prepared.prompt.parts


def test_a_model_without_a_template_gets_them_in_words_too() -> None:
    assert prepare(None, tools=[TOOL]).prompt.text.startswith("System: You can call functions.")


def test_calls_and_results_go_back_to_a_template_as_objects() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city":"</s>"}'}}
    prepared = prepare(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "-4"},
        ]
    )
    assert prepared.prompt.text == 'assistant: <tool_call>{"city": "</s>"}</s>\ntool: -4</s>\nassistant:'
    assert [part.text for part in prepared.prompt.parts if not part.parse_special] == ["</s>"]


def test_tools_that_may_not_be_called_are_not_spoken_of() -> None:
    prepared = prepare(tools=[TOOL], tool_choice="none")
    assert "Use <tool_call>" not in prepared.prompt.text
    assert prepared.grammar is None
    call = prepared.rules.format.written.text([("f", {})])
    assert outcome(prepared.parser(0), [call]).content == call


def test_the_grammar_that_was_tried_is_the_one_that_is_run() -> None:
    renderer = Renderer()
    prepared = prepare(renderer=renderer, tools=[TOOL])
    assert renderer.checked == [prepared.grammar]


def test_a_call_is_read_with_ids_that_follow_from_the_request() -> None:
    prepared = prepare(tools=[TOOL])
    call = prepared.rules.format.written.text([("f", {"city": "Oslo"})])
    for choice in (0, 1):
        parser = prepared.parser(choice)
        assert not parser.has_tool_calls
        content, _, calls = outcome(parser, ["So: ", *call])
        assert content == "So: "
        assert calls == [(call_id(RequestId("r1"), choice, 0), "f", '{"city": "Oslo"}')]
        assert parser.has_tool_calls


def test_only_a_tool_that_may_be_called_is_read_as_a_call() -> None:
    prepared = prepare(tools=[TOOL, OTHER], tool_choice="function:g")
    call = prepared.rules.format.written.text([("f", {})])
    assert outcome(prepared.parser(0), [call]).content == call


def test_a_model_whose_template_takes_one_call_makes_one() -> None:
    assert "{0,15}" not in (prepare(LLAMA, tools=[TOOL]).grammar or "")
    assert "{0,15}" in (prepare(HERMES, tools=[TOOL]).grammar or "")
    assert "{0,15}" not in (prepare(HERMES, tools=[TOOL], allows_parallel_tool_calls=False).grammar or "")


def test_reasoning_is_found_where_the_prompt_began_it() -> None:
    prepared = prepare(THINKING + "<think>\n", tools=[TOOL])
    assert outcome(prepared.parser(0), ["Hm.</think>\n\nCold."])[:2] == ("Cold.", "Hm.")
    assert prepared.shown_control_texts == {"<tool_call>", "</tool_call>", "<think>", "</think>"}
    assert "</think>" in (prepare(THINKING, constraint=JSON).grammar or "").replace("\\x2f", "/")


def test_control_tokens_stand_in_the_grammar_by_their_ids() -> None:
    grammar = prepare(tools=[TOOL], token_ids={"<tool_call>": 7, "</tool_call>": 8}).grammar or ""
    assert "<[7]>" in grammar
    assert "<[8]>" in grammar
    assert '"<tool_call>' not in grammar


def test_the_format_may_be_named() -> None:
    assert prepare(PLAIN, tools=[TOOL], tool_format="llama").rules.format.name == "llama"


@pytest.mark.parametrize("kind", ["json_object", "json_schema", "gbnf"])
def test_what_an_answer_shall_be_is_tried(kind: Any) -> None:
    renderer = Renderer()
    prepared = prepare(renderer=renderer, constraint=Constraint(kind, '{"type": "array"}'))
    assert renderer.checked == [prepared.grammar]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"constraint": JSON, "tools": [TOOL], "tool_choice": "required"}, "response_format"),
        ({"constraint": JSON, "tools": [TOOL], "tool_choice": "function:f"}, "response_format"),
        ({"constraint": JSON, "tools": [TOOL], "tool_format": "llama"}, "response_format"),
        ({"constraint": Constraint("gbnf", "x"), "tools": [TOOL]}, "grammar"),
        ({"constraint": Constraint("gbnf", "wrong")}, "grammar"),
        ({"constraint": Constraint("json_schema", "{")}, "response_format"),
        ({"constraint": Constraint("json_schema", "[]")}, "response_format"),
        ({"constraint": Constraint("json_schema", '{"const": "\\ud83d"}')}, "response_format"),
        ({"constraint": Constraint("json_schema", "[" * 100_000)}, "response_format"),
    ],
)
def test_what_contradicts_itself_is_named(changes: dict[str, Any], param: str) -> None:
    error = refusal(**changes)
    assert isinstance(error, BadConstraint)
    assert error.param == param


def test_json_and_tools_go_together_where_a_marker_tells_them_apart() -> None:
    prepared = prepare(constraint=JSON, tools=[TOOL])
    assert "asked: " in (prepared.grammar or "")
    assert prepare(PLAIN, constraint=JSON, tools=[TOOL], tool_choice="none").grammar


def test_the_tool_whose_schema_is_at_fault_is_named() -> None:
    error = refusal(
        renderer=Renderer(lambda lark: "no city" if "city" in lark else None), tools=[OTHER, TOOL]
    )
    assert isinstance(error, BadTools)
    assert error.param == "tools[1].function.parameters"
    assert str(error) == "tools[1].function.parameters: no city"


def test_tools_that_are_too_much_together_are_named_together() -> None:
    error = refusal(
        renderer=Renderer(lambda lark: "too much" if "args_1" in lark else None), tools=[TOOL, OTHER]
    )
    assert (type(error), error.param) == (BadTools, "tools")


def test_what_an_answer_shall_be_is_named_where_no_tool_is_at_fault() -> None:
    error = refusal(
        renderer=Renderer(lambda lark: "no" if "asked" in lark else None), constraint=JSON, tools=[TOOL]
    )
    assert (type(error), str(error)) == (BadConstraint, "response_format: no")


def test_looking_for_the_tool_at_fault_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer()

    async def check_grammar(lark: str) -> None:
        renderer.checked.append(lark)
        if len(renderer.checked) == 1:
            raise GrammarRefused("it ran longer than 2 s")
        await trio.sleep(1.5)

    monkeypatch.setattr(renderer, "check_grammar", check_grammar)
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(100)]
    error = refusal(renderer=renderer, tools=tools)
    assert error.param == "tools"
    assert len(renderer.checked) < 10
