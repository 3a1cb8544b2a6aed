"""Every other model: the answer is a JSON array of calls and nothing else.

    [{"name": "get_weather", "arguments": {"city": "Oslo"}}, ...]

No model was trained on this one. It is the shape that the most models have seen in
their training text, that needs no token of its own, and that holds several calls.
"""

from node.chat.formats.tool_format import ReadCalls, ToolFormat, WrittenCalls

_CALL = '{ "name" : "%" , "arguments" :'

GENERIC = ToolFormat(
    name="generic",
    written=WrittenCalls(
        opening="[",
        before_name='{"name": "',
        before_arguments='", "arguments": ',
        after_arguments="}",
        separator=", ",
        closing="]",
    ),
    read=ReadCalls.of(" } ]", at_start=(f" [ {_CALL}",), following=f" }} , {_CALL}"),
    start_marker='[ { "name"',
)
