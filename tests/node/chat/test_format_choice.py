from __future__ import annotations

import pytest

from node.chat.formats.choice import FORMATS, ChosenFormat, UnknownToolFormat, choose_format, takes_tools

TOOLS = "{%- if tools %}{{ tools | tojson }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "name", "is_native"),
    [
        (TOOLS + "return a json object within <tool_call></tool_call>", "hermes", True),
        (TOOLS + "<|start_header_id|>{{ '<|python_tag|>' }}", "llama", True),
        (TOOLS + '<|start_header_id|>{"name": function name, "parameters": ...}', "llama", True),
        (TOOLS + "{{ '[TOOL_CALLS][' }}", "mistral", True),
        (TOOLS + "{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", "mistral-args", True),
        ("{{ bos_token }}<start_of_turn>{{ role }}", "gemma", False),
        (TOOLS + "<tool_call>{{ name }}<arg_key>", "generic", False),
        (TOOLS + "<tool_call><function={{ name }}>", "generic", False),
        (TOOLS + "<|tool_list_start|>", "generic", False),
        ("{{ messages }}<tool_call>", "generic", False),
        ("{{ messages }} You may use tools.", "generic", False),
        ("", "generic", False),
    ],
)
def test_a_template_tells_its_family(template: str, name: str, is_native: bool) -> None:
    assert choose_format(template) == ChosenFormat(FORMATS[name], is_native)


def test_a_model_without_a_template_is_told_in_words() -> None:
    assert choose_format(None) == ChosenFormat(FORMATS["generic"], is_native=False)


def test_what_is_named_goes_before_what_would_be_guessed() -> None:
    assert choose_format(TOOLS + "<tool_call>", "llama") == ChosenFormat(FORMATS["llama"], is_native=True)
    assert choose_format("", "hermes") == ChosenFormat(FORMATS["hermes"], is_native=False)
    with pytest.raises(UnknownToolFormat, match="hermes, llama"):
        choose_format("", "wizard")


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        ("{% if tools is defined %}", True),
        ("{{ tools|tojson }}", True),
        ("{%- set x = {'a': tools} -%}", True),
        ("{% if builtin_tools %}", False),
        ("{# tools #}", False),
        ("tools {{ messages }} tools", False),
        ("{% if x %}tools{% endif %}", False),
        ("{{ tools", False),
    ],
)
def test_tools_count_where_the_template_computes_with_them(template: str, answer: bool) -> None:
    assert takes_tools(template) is answer
