"""Hermes 2 Pro and later, Qwen 2.5 and 3: an object in tags, as often as needed.

    Let me look.
    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

Source: the chat templates of NousResearch/Hermes-3-Llama-3.1-8B and Qwen/Qwen2.5-7B-Instruct.
"""

from node.chat.formats.tool_format import ReadCalls, ToolFormat, WrittenCalls

HERMES = ToolFormat(
    name="hermes",
    written=WrittenCalls(
        before_name='<tool_call>\n{"name": "',
        before_arguments='", "arguments": ',
        after_arguments="}\n</tool_call>",
        separator="\n",
    ),
    read=ReadCalls.of(
        " } </tool_call>",
        marker="<tool_call>",
        at_marker=('<tool_call> { "name" : "%" , "arguments" :',),
    ),
    control_texts=("<tool_call>", "</tool_call>"),
)
