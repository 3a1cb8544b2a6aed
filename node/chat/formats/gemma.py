"""Gemma 2 and 3, which know no tools of their own: JSON in a fenced block of code.

    ```tool_code
    {"name": "get_weather", "parameters": {"city": "Oslo"}}
    ```

Google's "Function calling with Gemma" puts tools and the form of a call into the
prompt; of its two forms, Python and JSON, only JSON can be held to a schema. The fence
is how its examples set calls apart from text.
"""

from node.chat.formats.tool_format import ReadCalls, ToolFormat, WrittenCalls

GEMMA = ToolFormat(
    name="gemma",
    written=WrittenCalls(
        before_name='```tool_code\n{"name": "',
        before_arguments='", "parameters": ',
        after_arguments="}\n```",
        separator="\n",
    ),
    read=ReadCalls.of(
        " } ```",
        marker="```tool_code",
        at_marker=('```tool_code { "name" : "%" , "parameters" :',),
    ),
)
