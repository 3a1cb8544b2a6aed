"""One module per command, or per few that belong together.

A command reads its flags, calls what does the work, and prints. What is heavy to
import is imported inside the command that needs it.
"""
