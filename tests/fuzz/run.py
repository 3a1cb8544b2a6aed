"""A hundred thousand near misses against each decoder: `make fuzz`.

    python tests/fuzz/run.py                  all decoders, about ten minutes
    python tests/fuzz/run.py ledger/entry     only these
    SEED=7 COUNT=1000 python tests/fuzz/run.py

Prints its seed, which replays it exactly. Ends with 1 if a decoder raised anything but its own
exception, said again something else than it read, or took or kept too much memory.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tracemalloc
from collections.abc import Iterable

from tests.fuzz.campaign import GROWTH_MAX, TAKES_BASE, TAKES_MAX, Outcome, run, settle
from tests.fuzz.decoders import DECODERS

COUNT = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed near misses to every decoder.")
    parser.add_argument("decoders", nargs="*", metavar="DECODER")
    chosen = parser.parse_args().decoders
    if unknown := set(chosen) - {decoder.name for decoder in DECODERS}:
        parser.error(f"there is no decoder called {min(unknown)}")
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**9))
    count = int(os.environ.get("COUNT") or COUNT)
    print(f"SEED={seed}, {count:,} mutations each", flush=True)
    tracemalloc.start()
    settle()
    outcomes = []
    for decoder in DECODERS:
        if not chosen or decoder.name in chosen:
            print(f"{decoder.name} ...", file=sys.stderr, flush=True)
            outcomes.append(run(decoder, count, seed))
    print(table(outcomes))
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    print(*failures, sep="\n")
    sys.exit(1 if failures else 0)


def table(outcomes: Iterable[Outcome]) -> str:
    """One line per decoder."""
    lines = [
        "| decoder | mutations | accepted | refused | growth, bytes | memory per byte | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {each.name} | {each.mutations:,} | {each.accepted:,} | {each.refused:,} | {each.growth:,} "
        f"| {each.dearest:.0f} | {each.seconds:.0f} |"
        for each in outcomes
    ]
    allowed = f"Allowed: {GROWTH_MAX:,} bytes of growth; {TAKES_MAX} bytes of memory per byte of input"
    return "\n".join([*lines, "", f"{allowed}, and {TAKES_BASE:,} besides."])


if __name__ == "__main__":
    main()
