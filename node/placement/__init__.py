"""This node's part of what the swarm wants where.

    placer          makes the plan again when something changed, and carries out what is ours of it
      hosts         core: the swarm's view as what can be planned with
      absences      core: who has been away for so long that its copies do not count
      retention     core: which copies of ours others rely on, and which we may give up
    wishes          core: what people want where, in their words
    keep            `/localai-node/keep/1`: "I drop mine: do you keep yours?"

The plan itself is `ledger/placement.py`. Nothing is fetched to a node whose owner did not allow it, and
nothing is deleted that its owner put there.
"""
