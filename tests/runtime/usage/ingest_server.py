"""Starts ingestion and compaction in processes of their own, which a test kills at any moment.

A line of standard input starts one; its process id is printed. The imports are made once.
"""

import os
import sys
from datetime import datetime
from pathlib import Path

import duckdb  # noqa: F401 (before the fork)

from runtime.usage.ingest import ingest
from runtime.usage.parquet import compact


def main() -> None:
    state, now = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            ingest(state, now, wait_s=60)
            compact(state, now)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
