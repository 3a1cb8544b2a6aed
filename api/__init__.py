"""OpenAI over HTTP, for any `Backend`; knows nothing of peers, libp2p or llama.cpp.

    request -> Boundary     request id, what every error looks like, counters
            -> Gate         keys; without keys: only this machine's own programs; body bounds
            -> FastAPI      checks the parameters, finds the endpoint
            -> InferenceResponse -> Backend     for as long as the client is there

Deviations from OpenAI, all on purpose:

- parameters that would change the answer and are not supported yet are refused by
  name (`schema.py`); those that change nothing, or that nobody knows, are ignored;
- `top_k`, `min_p` and `ignore_eos` are accepted besides OpenAI's own;
- `stop` takes 16 strings instead of 4; empty ones are ignored;
- the ids of answers carry the request id, and `x-localai-*` headers say who answered;
- a stream in which nothing comes for long carries SSE comments.
"""
