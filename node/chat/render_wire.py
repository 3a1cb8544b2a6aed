"""What a node and its render child say to each other: frames on the child's stdin and stdout.

    node                        child
      | <-------------- ready -- |    once: jinja2 is imported
      | -- template, values ---> |
      | <--------------- text -- |    or error: what went wrong, in the template's words
      | -- grammar ------------> |    in Lark: can it be run?
      | <--------------- text -- |    empty; or error: why not, in one line; or unavailable: no library
      | -- gbnf ---------------> |
      | <--------------- text -- |    the same in Lark; or error
      | -- end of stdin -------> |    exit

One request at a time. Both ends come from one installation: there are no versions.
"""

RENDER_FRAME_SIZE_MAX = 16 * 2**20
"""Bytes; as much as an engine takes as a prompt."""

RENDER_TIMEOUT = 2.0
"""Seconds of computing, of either kind: a busy machine makes no template a bad one. Templates take
microseconds, the slowest known 20 ms for a hundred messages; grammars 1 to 10 ms for each tool."""

RENDER_WAIT_MAX = 20.0
"""Seconds for an answer, by the clock. What may be computed takes longer only where ten others want each
core, or where the child does not run at all."""
