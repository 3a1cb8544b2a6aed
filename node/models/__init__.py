"""The models of one node: which files it has, what they are called, what they are.

    catalog ------> model_file     what a file is before it is loaded
        |           model_yaml     LocalAI-style settings beside it (yaml_reader, yaml_writer)
        |           model_name     what a model may be called
        |           split_files    which files are parts of one model
        +---------> demo_model     the bundled one, where it is installed

Files are used where they are. Nothing here loads a model: that is the engine's. What is in
the files, to the byte, is the business of `node/store`.
"""
