"""The program: it wires the other folders together and runs llama.cpp.

    cli ----------> config, home            what was asked for, where it lives
     |
     +--> runtime   one nursery: network, swarm, ledger, prober, worker, front, api, control
     +--> control   the running node, as other commands find it
     +--> doctor    what is wrong with this machine
     +--> demo      three real nodes on this machine

    worker -------> engine/   one llama.cpp subprocess per model
           -------> models/   the files this node serves
           -------> chat/     messages to prompt, in a process with a time bound
    attached/                 servers of other programs, as if they were a worker of ours

Everything heavy (libp2p, llama.cpp, the web stack) is imported where a node runs,
so that commands that only talk to a running node start at once.
"""

__version__ = "0.1.0"
