"""Llama 3.1 to 3.3: the answer is a call and nothing else, with or without the token for code.

    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}; {"name": ...}

Source: Meta's prompt format of Llama 3.1, "JSON based tool calling"; several calls as
Llama 3.2 and others write them. The built-in tools, which are called as Python, are
not offered, so they are not read either.
"""

from node.chat.formats.tool_format import ReadCalls, ToolFormat, WrittenCalls

_CALL = '{ "name" : "%" , "parameters" :'

LLAMA = ToolFormat(
    name="llama",
    written=WrittenCalls(
        before_name='{"name": "',
        before_arguments='", "parameters": ',
        after_arguments="}",
        separator="; ",
    ),
    read=ReadCalls.of(
        " }",
        marker="<|python_tag|>",
        at_marker=(f"<|python_tag|> {_CALL}",),
        at_start=(f" {_CALL}",),
        following=f" }} ; {_CALL}",
    ),
    start_marker='{ "name"',
    control_texts=("<|python_tag|>",),
)
