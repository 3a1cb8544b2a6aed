"""Replicated state, and who is alive: what the swarm knows of its nodes and models.

    ledger.py            what other folders hold: read everything, write your own
      replica.py         core: one replica, and the one writer in it
        state.py         core: which entries stand, and why one is refused
          entry.py       core: one signed fact, byte for byte, which proves itself (proof.py)
          floor.py       core: how deletions are left behind
      records.py         what nodes say, as types
      changes.py         who watches hears of changes
      backlog.py         core: by what the file is behind
      store.py           the file
        store_schema.py  its tables, and whether a file is whole
        store_log.py     what came in, what did not, and why
    view.py              nodes and models, with who is alive and how busy
      prober.py          probes peers, on streams
        asleep.py        how long this machine slept
        failure_detector.py   core: who is alive
    replicate.py         keeps ledgers equal, on streams
      spread.py          core: whom to tell, and with whom to compare
        sync.py          core: what is owed to one peer
        exchange_turn.py core: whom we ask now
      sync_messages.py   `/localai-node/ledger/1`
    placement.py         core: who should hold which model
    standing_streams.py  one stream per peer, for the prober and for the ledger

Promised: below the quotas, replicas that have seen the same entries are equal, nobody writes another's
entry, and a deleted one does not come back. Not promised: when. An entry is a
statement of its owner, and as old as the owner's last connection to anybody.
"""
