"""Recounts usage from raw rows: `python tests/recount.py STATE_DIR`. Imports nothing of fleetctl.

Prints JSON: figures by client, alias, version and hour, each request once, times as exact
quantiles of nearest rank. What the store says is compared with it.
"""

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def read(state_dir: Path) -> Rows:
    """Return the rows of all logs and copies, each request once; torn lines are left out."""
    found: dict[str, dict[str, Any]] = {}
    gateways = state_dir / "gateways"
    for path in [*gateways.rglob("usage*.jsonl"), *gateways.rglob("copy-of-usage-*.jsonl")]:
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
                found[row["request_id"]] = row
            except (ValueError, KeyError, TypeError):
                continue
    return [*found.values()]


def rank(values: list[float], share: float) -> float | None:
    """Return the value of nearest rank."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1] if values else None


def figures(rows: Rows) -> dict[str, Any]:
    """Return the figures of rows."""
    answered = [row for row in rows if row["status"] < 400]
    streams = [r for r in answered if r["stream"] and r["first_byte_s"] is not None]
    made: dict[str, Any] = {
        "requests": len(rows),
        "errors": sum(row["status"] >= 500 for row in rows),
        "refused": sum(row["status"] == 429 for row in rows),
        "rejected": sum(400 <= r["status"] < 500 and r["status"] not in (429, 499) for r in rows),
        "left": sum(row["status"] == 499 for row in rows),
        "unknown": sum(
            bool(row["version"])
            and (row["status"] < 400 or row["status"] == 499)
            and None in (row["input_tokens"], row["output_tokens"])
            for row in rows
        ),
    }
    for name in ("input_tokens", "output_tokens", "cached_tokens"):
        made[name] = sum(row.get(name) or 0 for row in rows)
    times = {
        "latency": [row["latency_s"] for row in answered],
        "first_token": [row["first_byte_s"] for row in streams],
    }
    for name, values in times.items():
        for share in (50, 95, 99):
            made[f"{name}_p{share}_s"] = rank(values, share / 100)
    return made


def recount(state_dir: Path, purpose: str = "live") -> list[dict[str, Any]]:
    """Return figures by client, alias, version and hour, sorted."""
    cells: defaultdict[tuple[str, ...], Rows] = defaultdict(list)
    for row in read(state_dir):
        if row["purpose"] == purpose:
            cells[row["client"], row["alias"], row["version"], row["time"][:13]].append(row)
    names = ("client", "alias", "version", "hour")
    return [dict(zip(names, key, strict=True)) | figures(cells[key]) for key in sorted(cells)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(recount(Path(sys.argv[1])), indent=1) + "\n")
