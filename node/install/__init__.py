"""From a name to a model that is served: where it comes from, how it comes, and what is there afterwards.

    manager         what commands and HTTP ask for               (api/model_manager.py)
      installer     decides how one model comes: from peers if any has it, else from its source
        search      core: who of the swarm has it, or gets it
        ways        carries that out
        arrival     one model's files on their way, and how they become a model
        supply      the three ways a file comes: from peers, from a download, from this disk
      tidying       what orders left that nobody gave again
      shelf         the models that are served: adds, removes and replaces them
      model_notes   what is remembered of each: its source, and whether the swarm put it here
    no_models       what a node says instead that runs none

Swarm first: nobody goes to the internet for what a peer has. Of those that want the same thing from outside
one goes (the origin), and the others take it from there, chunk by chunk, and from each other.
"""
