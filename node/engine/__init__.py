"""One llama.cpp subprocess per loaded model, seen from the node as an `Engine`.

    node process                                    engine process
    engine.py      state, restarts                  child.py       pipes, threads, exit
      supervisor.py  when to start it again (core)    step_loop.py   commands in, tokens out
      process.py     one child's pipes, and           scheduler.py   who is in the next batch (core)
                     the generations in it            text_stream.py bytes to text, stop strings (core)
      generation.py  what its reader sees             llama.py       the only user of llama_cpp
                            |                         load_problem.py  its errors in words (core)
                            +------- wire.py ---------------+

llama.cpp aborts its process where a library would raise, keeps memory until its
process ends, and cannot be killed inside one. So it gets a process of its own, and
a crash there is an event that fails the requests under way and nothing else.
"""
