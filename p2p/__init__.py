"""A swarm of peers, and streams between them. Knows nothing of models or HTTP.

    swarm             streams to admitted peers; who comes and goes
      |- admission                     who is let in, and who is let go       (cores)
      |    '- finder                   whom to dial, and why
      |         |- neighbours          how many links a node keeps
      |         '- address_book        who is known and where (known_peer), who is due (due_queue),
      |                                which of it anybody may have made up (hearsay)
      |- hello, controls               who we are, our right, and goodbye
      |- stream_gate                   nothing else before hello
      v
    network           the port: connections to whoever has the swarm's secret
      |- libp2p_network                real: TCP, private_network, Noise (libp2p_stream)
      |- memory_network                one process, any weather, one seed (memory_link)
      |- muxed_network                 what both share: yamux, multistream, connection_table
      |- framing, frame_stream         messages on a stream

    identity          an Ed25519 key: a node's, a founder's, an invite's
    token             the line that lets a machine in
    credential        the right to be here: links from the founder's key to one peer
    membership        a node's place in its swarm, kept between runs
    secret, mdns      what the swarm's secret keeps private; neighbours on the LAN
    blobs/            files that many peers have, fetched from all of them at once
    revision          something changed: for who waits for that

Three things prove themselves in turn on every connection: the private network that
the peer has the swarm's secret, Noise who it is, and hello that it may be here.

Importing this folder imports no libp2p: only `p2p.libp2p_network` does.
"""
