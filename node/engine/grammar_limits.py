"""How much work one answer's grammar may be: what an engine allows, and what is tried before.

Numbers only: the process that tries grammars loads nothing else of an engine.
"""

STEP_FUEL_MAX = 100_000
"""Half of the library's own, which is some 15 ms: everybody waits for a step."""

STEP_ITEMS_MAX = 10_000
"""A fifth of the library's own. The time rises with the square of it: the most ambiguous grammars that were
found take 0.2 s a token so, and 0.6 s with 25,000 (262,144 tokens). An object with 400 optional members needs
more than 5,000, which is as wide as a row may be (2,000 items)."""

LEXER_STATES_MAX = 50_000
"""A fifth of the library's own: at 2 kB each 100 MB."""

COMPILING_MAX = 0.4
"""Seconds of a processor, as long as a step may take: running answers wait for it too, and none of the
library's bounds holds there. A `multipleOf` of 200,003 takes 1.7 s, a choice of 400 tools 0.15 s."""
