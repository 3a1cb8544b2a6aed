"""What to run: which models of the galleries fit the machines of the swarm, and how fast they would be.

    stated.py      what a gallery's entry says of a model: how large it is, what it is for
    machine.py     what a node of the swarm has for a model, and what was measured there
    holdings.py    who has which model already
    suggest.py     both together: what fits where, in which order, and why
    advice_text.py the same for a terminal
    advice_map.py  the same as plain data
    look.py        looks at the machine, and at the swarm's view
    adviser.py     reads the galleries, and puts all of it together

All but the last two are pure. No number is made up: each says where it comes from, and where nothing was
stated or measured that is said instead.
"""
