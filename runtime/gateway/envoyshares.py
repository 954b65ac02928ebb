"""How an Envoy's traffic was split since the split last changed, from what it counts."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from runtime.files import replace_file
from runtime.gateway.table import AliasEntry, RoutingTable

SHARES: Final = "shares.json"
"""What had been counted when the split of each alias began."""
ASKED: Final = "^fleetctl[.]requests"
"""The counters that are looked at, as a filter of Envoy's."""
Counts = Mapping[str, Mapping[str, int]]
"""Requests by alias and version."""

_COUNTER: Final = re.compile(
    r'^envoy_fleetctl_requests\{.*?alias="([^"]*)",version="([^"]*)".*?\} (\d+)$', re.MULTILINE
)


def counts(metrics: str) -> Counts:
    """Return what an Envoy counted since it started, from its page for Prometheus."""
    found: dict[str, Counter[str]] = {}
    for alias, version, count in _COUNTER.findall(metrics):
        found.setdefault(alias, Counter())[version] += int(count)
    return found


def begin(folder: Path, table: RoutingTable, counted: Counts) -> None:
    """Remember what had been counted, for each alias whose split is another one now."""
    known, now = _known(folder), datetime.now(UTC).isoformat(timespec="seconds")
    made = {}
    for alias, entry in _splits(table):
        split = [entry.salt, *([each.adapter, each.percent] for each in entry.shares)]
        was = known.get(alias)
        fresh = {"split": split, "since": now, "before": dict(counted.get(alias, {}))}
        made[alias] = was if was is not None and was["split"] == split else fresh
    if made != known:
        replace_file(folder / SHARES, json.dumps(made).encode())


def shares(folder: Path, table: RoutingTable, counted: Counts) -> list[dict[str, Any]]:
    """Return each version's percent and requests, of aliases with more than one version.

    An Envoy that was started since then has counted from that moment on.
    """
    known = _known(folder)
    found = []
    for alias, entry in _splits(table):
        began = known.get(alias, {"since": "", "before": {}})
        now, before = counted.get(alias, {}), began["before"]
        if any(now.get(version, 0) < count for version, count in before.items()):
            before = {}
        for each in entry.shares:
            requests = now.get(each.adapter, 0) - before.get(each.adapter, 0)
            found.append(
                {"alias": alias, "adapter": each.adapter, "percent": each.percent}
                | {"requests": requests, "since": began["since"]}
            )
    return found


def _splits(table: RoutingTable) -> list[tuple[str, AliasEntry]]:
    return [each for each in sorted(table.aliases.items()) if len(each[1].shares) > 1]


def _known(folder: Path) -> dict[str, Any]:
    """Return what was remembered; nothing where it was not, or cannot be read."""
    try:
        return dict(json.loads((folder / SHARES).read_bytes()))
    except (OSError, ValueError):
        return {}
