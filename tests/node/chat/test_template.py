from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.chat.errors import BadMessages
from node.chat.template import SpecialTokens
from node.engine.wire import PromptPart

IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def chatml(messages: Sequence[dict[str, str]]) -> str:
    """What a ChatML template makes of `messages`, without Jinja."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join([*turns, "<|im_start|>assistant\n"])


def parts_of(content: str, specials: Sequence[str] = IM) -> tuple[PromptPart, ...]:
    tokens = SpecialTokens(specials)
    messages, marker = tokens.protect([{"role": "user", "content": content}], "no template here")
    return tokens.split(chatml(messages), marker)


def plain(parts: Sequence[PromptPart]) -> list[str]:
    return [part.text for part in parts if not part.parse_special]


def test_ordinary_text_goes_through_in_one_part() -> None:
    assert parts_of("2 < 3 |> and <b>") == (
        PromptPart(
            "<|im_start|>user\n2 < 3 |> and <b><|im_end|>\n<|im_start|>assistant\n", parse_special=True
        ),
    )


def test_a_token_somebody_wrote_is_text_and_the_templates_own_are_tokens() -> None:
    assert parts_of("say <|im_end|>") == (
        PromptPart("<|im_start|>user\nsay ", parse_special=True),
        PromptPart("<|im_end|>", parse_special=False),
        PromptPart("<|im_end|>\n<|im_start|>assistant\n", parse_special=True),
    )


def test_messages_without_tokens_are_given_back_as_they_are() -> None:
    messages = [{"role": "user", "content": "hello"}]
    assert SpecialTokens(IM).protect(messages, "") == (messages, "")


def test_names_are_guarded_and_roles_are_left_alone() -> None:
    message = {"role": "user", "content": "", "name": "</s>", "tool_call_id": "</s>"}
    broken, marker = SpecialTokens(["</s>", "user"]).protect([message], "")
    assert broken == [
        {"role": "user", "content": "", "name": f"<{marker}/s>", "tool_call_id": f"<{marker}/s>"}
    ]


def test_tokens_in_calls_and_tools_are_guarded_wherever_they_stand() -> None:
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "</s>", "function": {"name": "f", "arguments": {"a</s>": ["</s>", 1, None]}}}],
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"</s>": {}}}}}
    broken, marker = SpecialTokens(["</s>"]).protect([message, tool], "")
    token = f"<{marker}/s>"
    assert broken == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": token, "function": {"name": "f", "arguments": {f"a{token}": [token, 1, None]}}}
            ],
        },
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {token: {}}}}},
    ]


def test_overlapping_tokens_are_one_plain_text() -> None:
    assert plain(parts_of("xabcx", ["ab", "bc"])) == ["abc"]
    assert plain(parts_of("xaaaax", ["aa"])) == ["aaaa"]
    assert plain(parts_of("x<s><s>x", ["<s>"])) == ["<s>", "<s>"]


def test_the_longest_token_counts() -> None:
    assert plain(parts_of("<unused12>", ["<unused1", "<unused12>", "<unused2>"])) == ["<unused12>"]


def test_a_token_of_one_character_is_plain() -> None:
    assert plain(parts_of("a\x01b", ["\x01"])) == ["\x01"]


def test_a_very_long_token_is_broken_at_its_beginning() -> None:
    special = "<|" + "x" * 1000 + "|>"
    parts = parts_of(special, [special])
    assert special not in "".join(part.text for part in parts if part.parse_special)
    assert all(special not in part.text for part in parts)


def test_the_marker_is_a_character_nobody_uses() -> None:
    tokens = SpecialTokens(IM)
    _, usual = tokens.protect([{"role": "user", "content": "<|im_end|>"}], "")
    _, other = tokens.protect([{"role": "user", "content": f"<|im_end|>{usual}"}], "")
    _, third = tokens.protect([{"role": "user", "content": f"<|im_end|>{usual}"}], f"{other}")
    assert len({usual, other, third}) == 3


def test_text_that_leaves_no_marker_is_refused() -> None:
    every = "".join(map(chr, [*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900)]))
    with pytest.raises(BadMessages):
        parts_of(f"<|im_end|>{every}")


def test_a_template_that_cuts_content_off_at_the_marker_loses_nothing_else() -> None:
    tokens = SpecialTokens(IM)
    messages, marker = tokens.protect([{"role": "user", "content": "<|im_end|>"}], "")
    cut = messages[0]["content"][:2]
    assert tokens.split(f"<|im_start|>{cut}", marker) == (PromptPart("<|im_start|><", parse_special=True),)


def test_a_model_without_special_tokens_needs_no_guard() -> None:
    assert plain(parts_of("<|im_end|>", [])) == []


def test_a_flood_of_beginnings_takes_linear_time() -> None:
    # A pattern that tried each of these tokens at each place would take seconds.
    specials = [f"<|reserved_special_token_{number}|>" for number in range(1000)]
    parts = parts_of("<|reserved_special_token_" * 20_000, specials)
    assert plain(parts) == []


TEXTS = st.text(alphabet="ab<|>\ufdd0\ufdd1é", max_size=30)
SPECIALS = st.lists(st.text(alphabet="ab<|>", min_size=1, max_size=4), max_size=5)


@given(TEXTS, TEXTS, SPECIALS)
def test_parts_together_are_the_rendering_without_markers(
    first: str, second: str, specials: list[str]
) -> None:
    tokens = SpecialTokens(specials)
    messages = [{"role": "user", "content": first}, {"role": "assistant", "content": second}]
    broken, marker = tokens.protect(messages, "")
    assert "".join(part.text for part in tokens.split(chatml(broken), marker)) == chatml(messages)


@given(TEXTS, SPECIALS)
def test_no_token_in_a_message_stays_a_token(content: str, specials: list[str]) -> None:
    tokens = SpecialTokens(specials)
    broken, marker = tokens.protect([{"role": "user", "content": content}], "")
    # As a template does that sets content between two tokens of its own, which no content holds.
    parts = tokens.split(f"[{broken[0]['content']}]", marker)
    assert not any(special in part.text for part in parts if part.parse_special for special in specials)
    assert all(any(special in part.text for special in specials) for part in parts if not part.parse_special)
