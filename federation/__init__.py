"""Many workers seen as one backend: choose, lease, relay, ask another.

The path of a request, left to right on the front's node:

    api --> Front ----------------------------------> worker of this node
              |  directory  who has the model            (any `Infers`)
              |  balancer   pick one
              |  lease      count it, at once
              |  attempts   what to do when it says no
              |  relay      its events; when it fails, those of the next one, after what was delivered
              |             (continuation)
              |  hedge      one more, where the first content is late (first_words)
              |
              +--> RemoteBackend ~~~ infer/1 ~~~> InferServer --> worker of a peer
                   infer_client      infer        infer_server
                     pace            infer_codec, request_codec, chunk_codec, chunk_sizing

Everything that serves requests looks the same from above: `backend.py` is the port, with
`request_limits.py`. Embeddings, ranks and token ids take the same path as text.
"""
