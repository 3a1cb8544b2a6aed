"""A chat request made ready for one model: its prompt, what its answers may be, how they are read.

prepared = await prepare_chat(request, facts, template=..., renderer=...)
prepared.prompt                        goes to the engine
prepared.grammar                       Lark, or None; the engine holds every choice to it
prepared.shown_control_texts           the engine writes these tokens out; others stay silent
parser = prepared.parser(choice)       piece = parser.feed(text) ...; parser.finish()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, TypeVarTuple

import trio

from federation.backend import Constraint, InferenceRequest, RequestId
from node.chat.answer_parser import AnswerParser
from node.chat.call_ids import call_ids_of
from node.chat.call_parser import CallParser
from node.chat.errors import BadConstraint, BadTools, GrammarRefused
from node.chat.finite_schema import ENDLESS, has_finite_value
from node.chat.formats.choice import FORMATS, ChosenFormat, choose_format
from node.chat.grammar import AnswerRules, Asked, answer_grammar, schema_grammar
from node.chat.json_values import Uncarriable, require_carriable
from node.chat.native_calls import takes_several_calls
from node.chat.prompt import ChatPrompt, Renders, chat_prompt
from node.chat.reasoning import THINK, THINK_END, ReasoningSplitter, reasoning_mode
from node.chat.tools import ToolUse, check_tools
from node.engine.wire import ModelFacts

MARKER_TEXTS = frozenset({THINK, THINK_END}).union(*(format_.control_texts for format_ in FORMATS.values()))
"""What may be a token of its own in some vocabulary: what to look up for `ModelTraits.token_ids`."""

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

_BLAME_TIMEOUT = 5.0
"""Seconds to find out which of many tools is at fault. Without it one request could keep the child busy for
minutes; then all of them are."""


class RendersAndChecks(Renders, Protocol):
    """What knows templates and grammars: `renderer.ChatRenderer`."""

    async def check_grammar(self, lark: str) -> None:
        """Nothing, or `GrammarRefused`."""

    async def lark_of_gbnf(self, gbnf: str) -> str:
        """The same grammar in Lark, or `GrammarRefused`."""


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """What to do with one request."""

    prompt: ChatPrompt
    rules: AnswerRules
    request_id: RequestId
    grammar: str | None = None
    """In Lark; None: the answer may be any text."""

    @property
    def shown_control_texts(self) -> frozenset[str]:
        """Texts of control tokens that the parser must see, where the vocabulary has them as such."""
        calls = self.rules.format.control_texts if self.rules.tools else ()
        tags = (THINK, THINK_END) if self.rules.reasoning != "never" else ()
        return frozenset({*calls, *tags})

    def parser(self, choice: int) -> AnswerParser:
        """What reads answer `choice`. Same request, same choice, same text: same outcome, anywhere."""
        reasoning = ReasoningSplitter(self.rules.reasoning)
        if self.rules.tools is None:
            return AnswerParser(reasoning)
        names = frozenset(tool.name for tool in self.rules.tools.callable)
        return AnswerParser(
            reasoning, CallParser(self.rules.format.read, names, call_ids_of(self.request_id, choice))
        )


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What is known of a model's chats, besides its facts."""

    template: str | None = None
    """Goes before the model's own."""
    tool_format: str | None = None
    """One of `FORMATS`, as its YAML may say; None: as its template tells."""
    token_ids: Mapping[str, int] = field(default_factory=dict)
    """Ids by their text of the tokens that llguidance holds for special: control tokens, and those defined by
    users that stand between `<` and `>`."""


async def prepare_chat(
    request: InferenceRequest, facts: ModelFacts, traits: ModelTraits, renderer: RendersAndChecks
) -> PreparedChat:
    """`request`, checked and made ready for the model of `facts` and `traits`. Cancelled: nothing is left.

    Raises:
      BadMessages, BadTools, BadConstraint: the request is wrong; `param` says where.
      UnknownToolFormat: `traits` name none there is.
      TemplateFailed, RendererUnavailable: as their names say.
    """
    template = traits.template or facts.chat_template or ""
    chosen = choose_format(template, traits.tool_format)
    tools = await _off_the_loop_if(bool(request.tools), _tools, request, chosen, template)
    _require_possible(request.constraint, tools, chosen)
    asked = await _asked(request.constraint, renderer)
    prompt = await chat_prompt(
        request.messages, facts, template=template, renderer=renderer, tools=tools, chosen=chosen
    )
    rules = AnswerRules(chosen.format, tools, asked, reasoning_mode(template, prompt.text), traits.token_ids)
    grammar = await _off_the_loop_if(tools is not None, answer_grammar, rules)
    if grammar is not None:
        await _check(grammar, rules, request.constraint, renderer)
    return PreparedChat(prompt, rules, request.request_id, grammar)


async def completion_grammar(constraint: Constraint | None, renderer: RendersAndChecks) -> str | None:
    """What a raw completion is held to: there, nothing is known of reasoning or tools.

    Raises:
      BadConstraint: it cannot be enforced.
      RendererUnavailable: as its name says.
    """
    asked = await _asked(constraint, renderer)
    if asked is None:
        return None
    rules = AnswerRules(FORMATS["generic"], asked=asked)
    grammar = answer_grammar(rules)
    assert grammar is not None
    await _check(grammar, rules, constraint, renderer)
    return grammar


async def _off_the_loop_if(is_slow: bool, work: Callable[[*_Args], _T], *args: *_Args) -> _T:
    """What `work` returns. Megabytes of JSON take up to seconds: those are a thread's."""
    return await trio.to_thread.run_sync(work, *args) if is_slow else work(*args)


def _tools(request: InferenceRequest, chosen: ChosenFormat, template: str) -> ToolUse | None:
    tools = check_tools(
        request.tools, request.tool_choice, allows_parallel=request.allows_parallel_tool_calls
    )
    if tools is not None and chosen.is_native and not takes_several_calls(template):
        return replace(tools, calls_max=1)
    return tools


def _require_possible(constraint: Constraint | None, tools: ToolUse | None, chosen: ChosenFormat) -> None:
    if constraint is None or tools is None:
        return
    if tools.is_forced:
        raise BadConstraint(
            f"{_param(constraint)} has no meaning where tool_choice demands a call", param=_param(constraint)
        )
    if chosen.format.start_marker or constraint.kind == "gbnf":
        # Either begins like the other: which of them an answer is could not be told from its beginning.
        raise BadConstraint(
            f"{_param(constraint)} and tools together are not supported for this model: "
            "leave one out, or set tool_choice to none",
            param=_param(constraint),
        )


async def _asked(constraint: Constraint | None, renderer: RendersAndChecks) -> Asked | None:
    if constraint is None:
        return None
    match constraint.kind:
        case "json_object":
            return Asked.schema({"type": "object"})
        case "json_schema":
            return Asked.schema(await trio.to_thread.run_sync(_schema, constraint.text))
        case "gbnf":
            try:
                return Asked.lark(await renderer.lark_of_gbnf(constraint.text))
            except GrammarRefused as error:
                raise BadConstraint(f"grammar: {error}", param="grammar") from error


def _schema(text: str) -> dict[str, Any]:
    """The JSON schema that `text` is."""
    try:
        schema = json.loads(text)
        require_carriable(schema)
    except RecursionError as error:
        raise _bad_schema("is nested too deep") from error
    except Uncarriable as error:
        raise _bad_schema(str(error)) from error
    except ValueError as error:
        raise _bad_schema(f"is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise _bad_schema("must be an object")
    if not has_finite_value(schema):
        raise _bad_schema(ENDLESS)
    return schema


def _bad_schema(what: str) -> BadConstraint:
    return BadConstraint(f"response_format: the schema {what}", param="response_format")


def _param(constraint: Constraint) -> str:
    """The parameter of a chat request it came from."""
    return "grammar" if constraint.kind == "gbnf" else "response_format"


async def _check(
    grammar: str, rules: AnswerRules, constraint: Constraint | None, renderer: RendersAndChecks
) -> None:
    """Nothing, if `grammar` can be run; else who is to blame, as an error that names the parameter."""
    try:
        await renderer.check_grammar(grammar)
    except GrammarRefused as refusal:
        with trio.move_on_after(_BLAME_TIMEOUT):
            await _blame_tool(rules.tools, renderer)
        if constraint is not None:
            param = _param(constraint)
            raise BadConstraint(f"{param}: {refusal}", param=param) from refusal
        raise BadTools(f"tools, all together: {refusal}", param="tools") from refusal


async def _blame_tool(tools: ToolUse | None, renderer: RendersAndChecks) -> None:
    for tool in tools.callable if tools else ():
        try:
            await renderer.check_grammar(schema_grammar(tool))
        except GrammarRefused as error:
            raise BadTools(f"{tool.param}: {error}", param=tool.param) from error
