"""How families of models write tool calls, one small file each.

template text ----> choose_format ----> a ToolFormat      choice.py, tool_format.py
                                         |        |
               what is generated ----> read     written ----> grammar, earlier turns
                                    call_parser.py             (in the folder above)
"""
