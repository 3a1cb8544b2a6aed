"""Chunks in the size of frames: small ones become one, large ones become several.

What waits for a slow reader is merged, so that it costs one frame and one credit. Ids of
a long text, the numbers of a vector, or the arguments of a call may come all at once, and
are cut, so that the chunks under way always fit the stream's window.

Neither changes what a choice amounts to: within one, reasoning, text and calls stay in the
order in which they were generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from federation.backend import Chunk, TokenLogprob, ToolCallDelta

CHUNK_LENGTH_MAX = 1024
"""Characters in one chunk, of all its texts; at most 4 bytes each in UTF-8."""

CHUNK_TOKENS_MAX = 128
"""Tokens in one chunk: seconds of output, and small beside the text."""

CHUNK_LOGPROBS_MAX = 128
"""Tokens with a probability in one chunk: some 20 bytes each, so small beside the text as well."""

CHUNK_VECTOR_SIZE_MAX = 4096
"""Bytes of a vector in one chunk: as much as of text."""

_CALL_LENGTH = 64
"""Characters that one piece of a call counts besides its texts: its index, its names, and their lengths."""


def merged(first: Chunk, second: Chunk) -> Chunk | None:
    """Both as one chunk, or None if that would say something else or be too much for one frame."""
    if first.choice != second.choice or first.finish_reason is not None:
        return None
    if not (_keeps_order(first, second) and _keeps_pairs(first, second)):
        return None
    both = Chunk(
        first.choice,
        first.token_ids + second.token_ids,
        first.text + second.text,
        reasoning=first.reasoning + second.reasoning,
        tool_calls=_joined(first.tool_calls, second.tool_calls),
        logprobs=first.logprobs + second.logprobs,
        vector=first.vector + second.vector,
        finish_reason=second.finish_reason,
        is_cut=second.is_cut,
    )
    return both if _fits(both) else None


def pieces(chunk: Chunk) -> Iterator[Chunk]:
    """`chunk` as chunks that fit one frame each: mostly itself.

    Ids come first, the end comes last, and all but the last say that they are cut.
    """
    if _fits(chunk):
        yield chunk
        return
    end = [Chunk(chunk.choice, (), "", finish_reason=chunk.finish_reason)] if chunk.finish_reason else []
    # Where there are no ids, none can be taken for those of what is still to come.
    is_cut = bool(chunk.token_ids) or chunk.is_cut
    before: Chunk | None = None
    for part in chain(_cut_up(chunk), end):
        if before is not None:
            yield replace(before, is_cut=is_cut)
        before = part
    assert before is not None, "what does not fit has content"
    yield replace(before, is_cut=chunk.is_cut)


def held_size(chunk: Chunk) -> int:
    """What it takes to hold `chunk`, in tokens and characters, itself as one more."""
    arguments = sum(1 + len(call.arguments) for call in chunk.tool_calls)
    # A probability takes as much memory as four tokens do, and eight bytes of a vector less than one.
    likelihoods = sum(4 * (1 + len(each.top)) for each in chunk.logprobs)
    texts = len(chunk.text) + len(chunk.reasoning) + arguments
    return 1 + len(chunk.token_ids) + texts + likelihoods + len(chunk.vector) // 8


def _cut_up(chunk: Chunk) -> Iterator[Chunk]:
    bare = Chunk(chunk.choice, (), "")
    each = max(map(_logprob_count, chunk.logprobs), default=1)
    step = max(1, min(CHUNK_TOKENS_MAX, CHUNK_LOGPROBS_MAX // each))
    for at in range(0, max(len(chunk.token_ids), len(chunk.logprobs)), step):
        yield replace(
            bare, token_ids=chunk.token_ids[at : at + step], logprobs=chunk.logprobs[at : at + step]
        )
    for text in _cut(chunk.reasoning):
        yield replace(bare, reasoning=text)
    for text in _cut(chunk.text):
        yield replace(bare, text=text)
    for call in chunk.tool_calls:
        yield from (replace(bare, tool_calls=(part,)) for part in _parts(call))
    for at in range(0, len(chunk.vector), CHUNK_VECTOR_SIZE_MAX):
        yield replace(bare, vector=chunk.vector[at : at + CHUNK_VECTOR_SIZE_MAX])


def _keeps_order(first: Chunk, second: Chunk) -> bool:
    """Whether nothing of `second` would come before something of `first`."""
    kinds = [(bool(each.reasoning), bool(each.text), bool(each.tool_calls)) for each in (first, second)]
    last = max((place for place, is_there in enumerate(kinds[0]) if is_there), default=0)
    return not any(kinds[1][:last])


def _keeps_pairs(first: Chunk, second: Chunk) -> bool:
    """Whether each probability would still stand at the place of its token."""
    if not first.logprobs and not second.logprobs:
        return True
    return all(len(each.logprobs) == len(each.token_ids) for each in (first, second))


def _joined(first: tuple[ToolCallDelta, ...], second: tuple[ToolCallDelta, ...]) -> tuple[ToolCallDelta, ...]:
    """All pieces; where the last one goes on in the first of `second`, those two are one."""
    if not first or not second or not _goes_on(first[-1], second[0]):
        return first + second
    both = replace(first[-1], arguments=first[-1].arguments + second[0].arguments)
    return (*first[:-1], both, *second[1:])


def _goes_on(call: ToolCallDelta, following: ToolCallDelta) -> bool:
    return call.index == following.index and not following.id and not following.name


def _fits(chunk: Chunk) -> bool:
    calls = sum(
        _CALL_LENGTH + len(call.id) + len(call.name) + len(call.arguments) for call in chunk.tool_calls
    )
    return (
        len(chunk.token_ids) <= CHUNK_TOKENS_MAX
        and len(chunk.text) + len(chunk.reasoning) + calls <= CHUNK_LENGTH_MAX
        and sum(map(_logprob_count, chunk.logprobs)) <= CHUNK_LOGPROBS_MAX
        and len(chunk.vector) <= CHUNK_VECTOR_SIZE_MAX
    )


def _logprob_count(logprob: TokenLogprob) -> int:
    return 1 + len(logprob.top)


def _cut(text: str) -> Iterator[str]:
    return (text[at : at + CHUNK_LENGTH_MAX] for at in range(0, len(text), CHUNK_LENGTH_MAX))


def _parts(call: ToolCallDelta) -> Iterator[ToolCallDelta]:
    """`call` in pieces; the first has its names and nothing else, since they may be long themselves."""
    if call.id or call.name or not call.arguments:
        yield replace(call, arguments="")
    # Half a chunk each, which leaves room for what every piece counts.
    step = CHUNK_LENGTH_MAX // 2
    for at in range(0, len(call.arguments), step):
        yield ToolCallDelta(call.index, arguments=call.arguments[at : at + step])
