"""OpenAI over HTTP, for any `Backend`; knows nothing of peers, libp2p or llama.cpp.

    request -> Boundary     request id, what every error looks like; at the end what is logged and counted
            -> Gate         keys; without keys: only this machine's own programs; body bounds
            -> FastAPI      checks the parameters, finds the endpoint
            -> InferenceResponse -> Backend     for as long as the client is there

Deviations from OpenAI, all on purpose:

- parameters that would change the answer and are not supported are refused by
  name (`schema.py`); those that change nothing, or that nobody knows, are ignored;
- two names of one thing (`max_tokens`, `max_completion_tokens`) may both be there if they agree;
- of a name that is twice in a JSON object the last counts, as in every parser;
- what llama.cpp, LocalAI and vLLM have besides is accepted: `top_k`, `min_p`, `typical_p`,
  `repeat_penalty`, `repeat_last_n`, `ignore_eos`, `grammar`, `json_schema`;
- a `json_schema` is met whether it is `strict` or not;
- `functions` are answered with `tool_calls`, as `tools` are;
- what a model thought is `reasoning_content`, as DeepSeek calls it;
- `logprobs` cannot be had with `echo`: those of a prompt are not known;
- `stop` takes 16 strings instead of 4; empty ones are ignored;
- the ids of answers carry the request id, and `x-localai-*` headers say who answered
  (of several prompts: the first that was accepted);
- a stream in which nothing comes for long carries SSE comments.
"""
