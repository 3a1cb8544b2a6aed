"""How much work one answer's grammar may be: what an engine allows, and what is tried before.

Numbers only: the process that tries grammars loads nothing else of an engine.
"""

STEP_FUEL_MAX = 100_000
STEP_ITEMS_MAX = 25_000
"""Half of the library's own bounds on one step, which are some 15 ms: everybody waits for it."""

LEXER_STATES_MAX = 50_000
"""A fifth of the library's own: at 2 kB each 100 MB."""
