"""Mistral: a control token, then a list of calls; since 2025 names without JSON around them.

    [TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}, ...]
    [TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]...

Two formats, since no model writes both.

Source: mistral-common, instruct tokenizers v3 to v7 and v11; v11 may put an id between
name and arguments. Their templates refuse ids that are not nine letters and digits.
"""

from node.chat.formats.tool_format import ReadCalls, ToolFormat, WrittenCalls

_CALL = '{ "name" : "%" , "arguments" :'

_CONTROL_TEXTS = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")

MISTRAL = ToolFormat(
    name="mistral",
    written=WrittenCalls(
        opening="[TOOL_CALLS][",
        before_name='{"name": "',
        before_arguments='", "arguments": ',
        after_arguments="}",
        separator=", ",
        closing="]",
    ),
    read=ReadCalls.of(
        " } ]",
        marker="[TOOL_CALLS]",
        at_marker=(f"[TOOL_CALLS] [ {_CALL}",),
        following=f" }} , {_CALL}",
    ),
    control_texts=_CONTROL_TEXTS,
    call_id_length=9,
)

MISTRAL_ARGS = ToolFormat(
    name="mistral-args",
    written=WrittenCalls(
        before_name="[TOOL_CALLS]",
        before_arguments="[ARGS]",
        after_arguments="",
    ),
    read=ReadCalls.of(
        "",
        marker="[TOOL_CALLS]",
        at_marker=("[TOOL_CALLS] % [ARGS]", "[TOOL_CALLS] % [CALL_ID] # [ARGS]"),
    ),
    control_texts=_CONTROL_TEXTS,
    call_id_length=9,
)
