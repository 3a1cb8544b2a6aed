"""Replicated state, and who is alive: what the swarm knows of its nodes and models.

    ledger.py            what other folders hold: read everything, write your own
      state.py           core: which entries stand, and why one is refused
        entry.py         core: one signed fact, byte for byte
      records.py         what nodes say of themselves, as types
      changes.py         who watches hears of changes
      store.py           the file
    view.py              nodes and models, with who is alive and how busy
      prober.py          probes peers, on streams
        failure_detector.py   core: who is alive
    replicate.py         keeps ledgers equal, on streams
      sync.py            core: what is owed to one peer
      sync_messages.py   `/localai-node/ledger/1`
    standing_streams.py  one stream per peer, for the prober and for the ledger

Promised: replicas that have seen the same entries are equal, nobody writes another's
entry, and a deleted one does not come back. Not promised: when. An entry is a
statement of its owner, and as old as the owner's last connection to anybody.
"""
