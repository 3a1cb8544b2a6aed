"""Chat messages into the prompt of one model (`prompt.py`).

    messages ------> checked: roles, text                       messages.py
        |
        +-- a template: special tokens in them broken up        template.py
        |       rendered, in a process of its own               renderer.py ~~ render_child.py
        |       cut into parts the engine tokenises             template.py
        |
        +-- no template: a plain dialogue                       plain_prompt.py

A template is a program that came with a model file, and what it loops over is
what a client sent. So it runs where it can be stopped: not in the node.
"""
