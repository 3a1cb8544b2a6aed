"""Files that many peers have: cut in chunks, known by their hashes, fetched from everybody at once.

    manifest          the files of one model, by their hashes (file_name: what they may be called)
    have_map          which chunks of a file somebody has
    blob_messages     what travels between who fetches and who gives

    source, sink      the ports: where chunks come from on this node, and where they go to
    seeder            gives peers what they ask for
      |- seeding          one peer, on one stream; followed_file: what it was told of a file
      '- upload_turns     who is served next, how fast (upload, the core)

    fetcher           gets manifests and files from peers
      |- file_fetch       one file (fetched_file) from all who have it
      |    '- fetch       which chunk is asked of whom (wanted_chunks, asked_seeder)   (core)
      |- peer_channels    one stream to each seeder (peer_channel), read at fetch_pace
      '- reputation       who sent wrong chunks                               (core)

A file is known by its sha256 wherever it lies and whatever it is called. Nothing that came
from a peer is used before its chunk's hash matched. Knows nothing of models or HTTP.
"""
