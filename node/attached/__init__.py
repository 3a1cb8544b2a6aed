"""Servers of other programs on this machine as part of this node: `--backend URL`.

    request --> request_body.py --> HTTP --> the server
                                               |
    events <--- answer_stream.py <--- sse.py --+       text, piece by piece
            <-- lookup_answer.py <-------------+       vectors, scores, token ids
    errors <--- error_answer.py <--------------+       what it says instead

    dialect.py      who it is, and what can be asked of it
    model_list.py   what its lists say of its models
    survey.py       asks for them, now and then
    exchange.py     one request
    server.py       a `Backend` over one server: models, health, slots
    together.py     the same over our own engines and all servers

Nothing a server says is trusted: sizes are bounded, and what cannot be read is its failure, not ours.
"""
