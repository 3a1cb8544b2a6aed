"""llama.cpp, as much of it as an engine needs. Nothing else imports `llama_cpp`.

    load.py              a file -> one of the two below
      text_model.py      generates text: sequences in one context
      embedder.py        turns texts into vectors, or ranks them
        batch.py         the tokens of one llama_decode
        vocabulary.py    text to tokens and back
        library.py       the library itself: what it logs, how it was built

Each function here knows which calls abort the process when misused, and checks first.
One thread only: two threads in one context crash.
"""
