"""Thousands of requests made from our own OpenAPI, and near misses of them: `make fuzz-api`.

    python tests/fuzz/run_api.py                     every endpoint, about half an hour
    SEED=7 COUNT=100 python tests/fuzz/run_api.py

Prints its seed, which replays it exactly, and how often each status came. Ends with 1 at an answer
that is not as the document says, and prints the request that got it.
"""

from __future__ import annotations

import os
import secrets
import sys

from tests.api.openapi_cases import check, new_app, operations

COUNT = 3_000


def main() -> None:
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**9))
    count = int(os.environ.get("COUNT") or COUNT)
    print(f"SEED={seed}, {count:,} requests to each endpoint", flush=True)
    app = new_app()
    failures = 0
    for operation in operations(app):
        try:
            statuses = check(app, operation, count, seed)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what was looked for)
            failures += 1
            print(f"{operation.label}: {error}", flush=True)
        else:
            told = ", ".join(f"{times:,} x {status}" for status, times in sorted(statuses.items()))
            print(f"{operation.label}: {told}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
