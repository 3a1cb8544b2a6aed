"""What the grammars allow, as llguidance itself says over a vocabulary of single bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chat.call_parser import CallParser
from node.chat.errors import GrammarRefused
from node.chat.formats.choice import FORMATS
from node.chat.formats.tool_format import ToolFormat
from node.chat.grammar import AnswerRules, Asked, answer_grammar, schema_grammar
from node.chat.grammar_library import check_grammar, lark_of_gbnf
from node.chat.reasoning import ReasoningMode
from node.chat.tools import ToolUse, check_tools
from node.engine.grammar_limits import COMPILING_MAX
from tests.node.chat.matching import CONTROL, matches

ASKED = Asked.schema({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
Call: TypeAlias = tuple[str, dict[str, Any]]
F: Call = ("f", {"a": 1})
G: Call = ("ff", {"s": 'x\n{"'})
WRONG: tuple[Call, ...] = (("f", {}), ("f", {"a": "1"}), ("f", {"a": 1, "b": 2}), ("g", {"a": 1}))
EVERY = pytest.mark.parametrize("format_", FORMATS.values(), ids=list(FORMATS))
MARKED = pytest.mark.parametrize(
    "format_", [form for form in FORMATS.values() if not form.start_marker], ids=lambda form: form.name
)
THOUGHTS: Mapping[ReasoningMode, str] = {
    "never": "",
    "possible": "<think>I <tool_call> [TOOL_CALLS] [{</think>\n\n",
    "begun": "I <tool_call> [TOOL_CALLS] [{</think>\n\n",
}
MODES = pytest.mark.parametrize("mode", list(THOUGHTS))


def tool(name: str, parameters: dict[str, Any], *, strict: bool | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


def uses(choice: str = "auto", *, parallel: bool = True, tools: Sequence[Any] = ()) -> ToolUse | None:
    default = [
        tool("f", {"properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        tool("ff", {"properties": {"s": {"type": "string"}, "t": {"type": "string"}}}),
    ]
    return check_tools(tools or default, choice, allows_parallel=parallel)


def token_ids(format_: ToolFormat) -> dict[str, int]:
    return {text: CONTROL + index for index, text in enumerate(format_.control_texts)}


def allows(rules: AnswerRules, text: str) -> bool:
    """Whether `text` is a whole answer."""
    grammar = answer_grammar(rules)
    return grammar is None or matches(grammar, text, rules.token_ids)


def test_nothing_asked_is_nothing_to_hold_to() -> None:
    assert answer_grammar(AnswerRules(FORMATS["hermes"])) is None
    assert answer_grammar(AnswerRules(FORMATS["hermes"], reasoning="begun")) is None


@EVERY
@MODES
@pytest.mark.parametrize("has_control_tokens", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_must_meet_their_tools(
    format_: ToolFormat, mode: ReasoningMode, has_control_tokens: bool, choice: str
) -> None:
    ids = token_ids(format_) if has_control_tokens else {}
    # In a vocabulary with control tokens they are no text, and a model has no reason to think of them.
    thought = re.sub(r"I .*\[\{", "I", THOUGHTS[mode]) if ids else THOUGHTS[mode]
    rules = AnswerRules(format_, uses(choice), reasoning=mode, token_ids=ids)
    assert allows(rules, thought + format_.written.text([F]))
    assert allows(rules, thought + format_.written.text([F, G, G]))
    for wrong in WRONG:
        assert not allows(rules, thought + format_.written.text([wrong]))
        assert not allows(rules, thought + format_.written.text([F, wrong]))
    assert not allows(rules, thought + format_.written.text([F]) + " And then?")
    assert allows(rules, thought + "Hello [1] {x} `y` <b>") is (choice == "auto")


@MARKED
@MODES
def test_text_may_come_before_calls_that_need_not_come(format_: ToolFormat, mode: ReasoningMode) -> None:
    rules = AnswerRules(format_, uses("auto"), reasoning=mode)
    assert allows(rules, THOUGHTS[mode] + "Let me see.\n" + format_.written.text([F]))
    assert not allows(rules, THOUGHTS[mode] + "Let me see.\n" + format_.written.text([("f", {})]))
    assert not allows(AnswerRules(format_, uses("required")), "Let me see.\n" + format_.written.text([F]))


@EVERY
def test_one_call_is_all_where_several_are_not_allowed(format_: ToolFormat) -> None:
    for choice in ("auto", "required"):
        rules = AnswerRules(format_, uses(choice, parallel=False))
        assert allows(rules, format_.written.text([F]))
        assert not allows(rules, format_.written.text([F, F]))


@EVERY
def test_calls_come_to_an_end(format_: ToolFormat) -> None:
    rules = AnswerRules(format_, uses("required"))
    assert allows(rules, format_.written.text([F] * 16))
    assert not allows(rules, format_.written.text([F] * 17))


@EVERY
def test_only_the_tool_that_was_named_is_called(format_: ToolFormat) -> None:
    rules = AnswerRules(format_, uses("function:ff"))
    assert allows(rules, format_.written.text([G]))
    assert not allows(rules, format_.written.text([F]))


@pytest.mark.parametrize("name", ["llama", "generic"])
def test_where_a_call_is_the_whole_answer_text_may_not_begin_like_one(name: str) -> None:
    rules = AnswerRules(FORMATS[name], uses("auto"))
    begin = "[" if name == "generic" else ""
    assert not allows(rules, begin + ' {\n"name": "f"')
    assert allows(rules, begin + '{"n": 1}')
    assert allows(rules, "So: " + begin + '{"name": "f"')


def test_a_model_may_stop_while_it_thinks_where_nothing_is_forced() -> None:
    hermes = FORMATS["hermes"]
    assert allows(AnswerRules(hermes, uses("auto"), reasoning="begun"), "Hm. <tool_call>")
    assert allows(AnswerRules(hermes, uses("auto"), reasoning="possible"), "<think>Hm. <tool_call>")
    assert not allows(AnswerRules(hermes, uses("required"), reasoning="begun"), "Hm.")


@EVERY
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_tags_that_are_tokens_of_their_own_set_reasoning_apart(format_: ToolFormat, choice: str) -> None:
    ids = {"<think>": CONTROL, "</think>": CONTROL + 1}
    call, wrong = format_.written.text([F]), format_.written.text([("f", {})])
    for mode, begin in (("possible", "<think>"), ("begun", "")):
        rules = AnswerRules(format_, uses(choice), reasoning=cast(ReasoningMode, mode), token_ids=ids)
        assert allows(rules, f"{begin}I could {wrong}</think>\n\n{call}")
        assert allows(rules, f"{begin}</think>{call}")
        assert not allows(rules, f"{begin}Hm.</think>{wrong}")
        assert allows(rules, f"{begin}I could {wrong}") is (choice == "auto")
        assert allows(rules, f"{begin}Hm.</think>Hello") is (choice == "auto")
    rules = AnswerRules(format_, uses(choice), reasoning="possible", token_ids=ids)
    assert allows(rules, call)
    assert not allows(rules, wrong)


@MODES
def test_json_may_come_after_reasoning_and_nothing_else_with_it(mode: ReasoningMode) -> None:
    rules = AnswerRules(FORMATS["generic"], asked=ASKED, reasoning=mode)
    assert allows(rules, THOUGHTS[mode] + '{"x": 1}')
    assert allows(rules, THOUGHTS[mode] + '{\n    "x": 1\n}')
    for wrong in ('{"x": "1"}', "Here: {}", '{"x": 1} !', "{" + "\n" * 9 + '"x": 1}', ""):
        assert not allows(rules, THOUGHTS[mode] + wrong)


@MARKED
@MODES
def test_json_or_a_call_where_both_were_asked_for(format_: ToolFormat, mode: ReasoningMode) -> None:
    rules = AnswerRules(format_, uses("auto"), ASKED, mode)
    assert allows(rules, THOUGHTS[mode] + '{"x": 1}')
    assert allows(rules, THOUGHTS[mode] + format_.written.text([F, G]))
    assert not allows(rules, THOUGHTS[mode] + "Hello")
    assert not allows(rules, THOUGHTS[mode] + format_.written.text([("f", {})]))


@MODES
def test_a_grammar_of_llama_cpp_holds_after_reasoning(mode: ReasoningMode) -> None:
    gbnf = 'root ::= "{" item* "}" # braces\nitem ::= [a-z\\u00e9"/] | root'
    rules = AnswerRules(FORMATS["generic"], asked=Asked.lark(lark_of_gbnf(gbnf)), reasoning=mode)
    check_grammar(answer_grammar(rules) or "")
    assert allows(rules, THOUGHTS[mode] + '{a{é"/}}')
    assert not allows(rules, THOUGHTS[mode] + "{a{}")


RECURSIVE = {"properties": {"value": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["value"]}
TREE = {
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (RECURSIVE, {"value": 1, "next": {"value": 2, "next": {"value": 3}}}),
        (TREE, {"root": {"kids": [{"kids": []}, {}]}}),
    ],
)
def test_schemas_that_refer_to_themselves_work(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    rules = AnswerRules(FORMATS["hermes"], uses("required", tools=[tool("f", schema, strict=True)]))
    check_grammar(answer_grammar(rules) or "")
    assert allows(rules, FORMATS["hermes"].written.text([("f", arguments)]))


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"properties": {"a": {"not": {}}}}, r'Unimplemented keys: \["not"\]'),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "look-ahead"),
        ({"properties": {"a": {"type": "strin"}}}, "Invalid type: strin"),
        ({"properties": {"a": {"$ref": "http://example.org/x"}}}, "does not fetch"),
        ({"properties": {"a": {"enum": []}}, "required": ["a"]}, "unsatisfiable"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_in_one_line(schema: dict[str, Any], says: str) -> None:
    use = uses("required", tools=[tool("f", schema, strict=True)])
    assert use is not None
    with pytest.raises(GrammarRefused, match=says) as caught:
        check_grammar(schema_grammar(use.callable[0]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "#"}, "no answer could meet it"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "no answer could meet it"),
        ({"type": "integer", "multipleOf": 999983, "minimum": 3}, "fuel exhausted"),
    ],
)
def test_what_only_fails_at_the_first_token_is_refused_too(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(GrammarRefused, match=says):
        check_grammar(f"start: %json {json.dumps(schema)}")


def test_a_grammar_for_whose_compiling_everybody_would_wait_is_refused() -> None:
    seconds = iter([0.0, COMPILING_MAX, 0.0, 2 * COMPILING_MAX])
    check_grammar('start: "a"', lambda: next(seconds))
    with pytest.raises(GrammarRefused, match=r"takes 0.8 s to compile"):
        check_grammar('start: "a"', lambda: next(seconds))


def test_a_tool_that_is_not_strict_goes_without_what_cannot_be_enforced() -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}}}
    use = uses("required", tools=[tool("f", schema)])
    assert use is not None
    check_grammar(schema_grammar(use.callable[0]))
    rules = AnswerRules(FORMATS["generic"], use)
    assert allows(rules, FORMATS["generic"].written.text([("f", {"a": [1, 1]})]))
    assert not allows(rules, FORMATS["generic"].written.text([("f", {"a": ["1"]})]))


@pytest.mark.parametrize(
    ("schema", "more_allowed"),
    [
        ({"properties": {"a": {}}}, False),
        ({"properties": {"a": {}}, "additionalProperties": True}, True),
        ({"allOf": [{"properties": {"b": {}}}], "properties": {"a": {}}}, True),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, True),
    ],
)
def test_names_are_made_up_only_where_a_schema_says_they_may(
    schema: dict[str, Any], more_allowed: bool
) -> None:
    rules = AnswerRules(FORMATS["generic"], uses("required", tools=[tool("f", schema)]))
    assert allows(rules, FORMATS["generic"].written.text([("f", {"a": 1, "b": 2})])) is more_allowed


def test_a_client_cannot_set_options_of_the_library() -> None:
    schema = {"properties": {"a": {}}, "x-guidance": {"lenient": True, "item_separator": "(x+)+"}}
    use = uses("required", tools=[tool("f", {**schema, "not": {}}, strict=True)])
    assert use is not None
    with pytest.raises(GrammarRefused, match="not"):
        check_grammar(schema_grammar(use.callable[0]))


@pytest.mark.parametrize(
    "gbnf",
    [
        "root ::= nobody",
        "root ::= (",
        "",
        "root ::= " + "(" * 5000,
        'root ::= "a"\nroot2 ::= [\\d]',
        "root ::= \udc00"[:9] + "]",
    ],
)
def test_a_grammar_that_does_not_parse_is_refused(gbnf: str) -> None:
    with pytest.raises(GrammarRefused):
        check_grammar(lark_of_gbnf(gbnf))


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(list(FORMATS.values())),
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=3),
    # llguidance takes DEL in a string only as an escape.
    st.text(st.characters(exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=20),
)
def test_what_the_grammar_allows_the_parser_reads(format_: ToolFormat, numbers: list[int], text: str) -> None:
    calls: list[Call] = [*(("f", {"a": number}) for number in numbers), ("ff", {"s": text})]
    written = format_.written.text(calls)
    assert allows(AnswerRules(format_, uses("auto")), written)
    parser = CallParser(format_.read, {"f", "ff"}, str)
    content, deltas = parser.feed(written)
    assert content + parser.finish()[0] == ""
    assert [(delta.name, json.loads(delta.arguments)) for delta in deltas] == calls
