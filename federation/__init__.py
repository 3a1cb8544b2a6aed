"""Many workers seen as one backend: choose, lease, relay, ask another.

The path of a request, left to right on the front's node:

    api --> Front ---------------------> gate ------> worker of this node
              |  aliases    what is meant  ^             (any `Infers`)
              |  sources    whose turn, who is asked (source, backends)
              |  outcomes   what came of it
              |  turns      who goes next
              |             (room, waiting_room, waiting_line, busy_peers, prospects)
              |  router     what each would take
              |             (directory, work, speeds, priors, reports, affinity, circuit, cost; explain)
              |  balancer   choose one
              |  lease      count it, at once
              |  attempts   what to do when it says no
              |  relay      its events; when it fails, those of the next one, after what was delivered
              |             (continuation)
              |  hedge      one more, where the first content is late (first_words)
              |
              +--> RemoteBackend ~~~ infer/1 ~~~> InferServer --> gate --> worker of a peer
              |    infer_client      infer        infer_server    gated_backend, slot_gate
              |      pace            infer_codec, request_codec, chunk_codec, chunk_sizing
              +--> LoadFeeds <~~~~~~ load/1 ~~~~~ LoadFeedServer
                   load_feed_client  load_feed    load_feed_server

Everything that serves requests looks the same from above: `backend.py` is the port, with
`request_limits.py`, and with `trace.py`, which tells how a request went. Embeddings, ranks and
token ids take the same path as text.
"""
