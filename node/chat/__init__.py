"""What is between OpenAI's words and one model's text (`preparation.py`).

    a request                                                             an answer

    messages ------> checked                  messages.py      text as it is generated
    tools ---------> checked                  tools.py           |
        |                                                      reasoning split off     reasoning.py
        +-- the family's way to call      formats/               |
        +-- a template that knows tools   native_calls.py      calls found             call_parser.py
        +-- one that does not             described_tools.py     |
        |                                                      AnswerParser            answer_parser.py
        +-- special tokens broken up          template.py
        |   rendered, in its own process      renderer.py ~~ render_child.py
        |   cut into parts to tokenise        template.py
        +-- no template: a plain dialogue     plain_prompt.py
        |
        +-- what the answer may be, as a grammar   grammar.py
            tried, in the same process             renderer.py ~~ render_child.py, grammar_library.py

A template is a program that came with a model file, and what it loops over is what a
client sent; so is a schema. So both run where they can be stopped: not in the node.
"""
