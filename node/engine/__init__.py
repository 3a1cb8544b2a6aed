"""One llama.cpp subprocess per loaded model, seen from the node as an `Engine`.

    node process                                    engine process
    engine.py      state, restarts                  child.py       pipes, threads, exit
      request_size.py  how much at once (core)        step_loop.py   commands in, tokens out
      supervisor.py  when to start it again (core)      engine_prompt.py  a prompt as tokens (core)
      process.py     one child's pipes, and             scheduler.py      who is in the next batch (core)
                     the generations in it              slots.py          where a prompt goes (core)
        watchdog.py    is it stuck, or too large (core)  load_progress.py  what is said of a load (core)
      generation.py  what its reader sees               choice.py         one answer while it grows (core)
                            |                             text_stream.py  bytes to text, stop strings (core)
                            |                             sampler.py      its next token (core)
                            |                               sampling.py   scores to a draw (core)
                            |                               constraint.py grammars: llguidance
                            |                         pacing.py      when it is told of (core)
                            |                         embed_loop.py  texts in, vectors out (core)
                            |                         lookup.py      text to tokens and back (core)
                            |                         llama/         the only user of llama_cpp
                            |                           load_problem.py  its errors in words (core)
                            +- wire.py, wire_codec.py, refusals.py --+

llama.cpp aborts its process where a library would raise, keeps memory until its
process ends, and cannot be killed inside one. So it gets a process of its own, and
a crash there is an event that fails the requests under way and nothing else.
"""
