"""Where a model comes from when nobody in the swarm has it.

    reference      what people write               -> what it names
    resolve        what it names                   -> which files, from where, with which hashes
      |  galleries     LocalAI's model galleries
      |  hugging_face  a repository, or one file of it
      +- ollama        a model of an Ollama registry
    download       one file, from there            -> into a target, chunk by chunk

Nothing here knows the swarm or the store: a caller asks the swarm first, and gives the target. Secrets
(tokens, a password or a signature in a URL) are sent where they belong and shown nowhere.
"""
