"""The files of this node's models, verified to the byte: what it has, what is coming, what it can give.

    store -----> model_files        what the swarm calls the files of a model, and its settings
      |   +----> hashing            sha256 and BLAKE3 of a file, once --> resumable_sha256
      |   |         +-----------> hash_cache     what is known of files that did not change
      |   +----> chunk_reader       a chunk as it was hashed, or a reason
      |   +----> kept_manifests     of models that are on their way
      |
      +--------> partial            a file that is coming in, for the event loop
                    +-----------> partial_disk   the same for threads --> partial_map, partial_lock

    reuse                           chunks that another file here has already
    foreign                         models of other programs, used in place

Files are plain ones that a person recognises. What is under its name is whole; what is not whole is hidden.
What peers and sources are is not known here: `p2p/blobs` takes and gives chunks, through
`ChunkSource` and `ChunkSink`.
"""
