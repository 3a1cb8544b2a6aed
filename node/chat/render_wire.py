"""What a node and its render child say to each other: frames on the child's stdin and stdout.

    node                        child
      | <-------------- ready -- |    once: jinja2 is imported
      | -- template, values ---> |
      | <--------------- text -- |    or error: what went wrong, in the template's words
      | -- end of stdin -------> |    exit

One request at a time. Both ends come from one installation: there are no versions.
"""

RENDER_FRAME_SIZE_MAX = 16 * 2**20
"""Bytes; as much as an engine takes as a prompt."""

RENDER_TIMEOUT = 2.0
"""Seconds. Templates take microseconds, the slowest known 20 ms for a hundred messages."""
