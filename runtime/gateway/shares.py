"""The split as it is, beside the split as it should be, since it was last changed."""

from collections import Counter
from datetime import UTC, datetime

from runtime.gateway.metrics import Metrics
from runtime.gateway.table import AliasEntry, RoutingTable


class Shares:
    """Remembers what had been counted when the split of an alias began."""

    def __init__(self, metrics: Metrics) -> None:
        """Begin; counts come from the metrics, so that the two cannot differ."""
        self._metrics = metrics
        self._began: dict[str, tuple[datetime, Counter[str]]] = {}

    def changed(self, before: RoutingTable, after: RoutingTable) -> None:
        """Begin anew for each alias whose split is another one now."""
        now = datetime.now(UTC)
        fresh = [
            alias
            for alias, entry in after.aliases.items()
            if alias not in before.aliases or _split(before.aliases[alias]) != _split(entry)
        ]
        counted = self._counted(set(fresh))
        for alias in fresh:
            self._began[alias] = (now, counted.get(alias, Counter()))
        for alias in self._began.keys() - after.aliases.keys():
            del self._began[alias]

    def document(self, table: RoutingTable) -> list[dict[str, object]]:
        """Return each version's percent and requests, of aliases with more than one version."""
        split = {name: each for name, each in table.aliases.items() if len(each.shares) > 1}
        counted = self._counted(set(split))
        found: list[dict[str, object]] = []
        for alias, entry in sorted(split.items()):
            since, before = self._began.get(alias, (datetime.now(UTC), Counter()))
            now = counted.get(alias, Counter())
            found += [
                {
                    "alias": alias,
                    "adapter": share.adapter,
                    "percent": share.percent,
                    "requests": now[share.adapter] - before[share.adapter],
                    "since": since.isoformat(timespec="seconds"),
                }
                for share in entry.shares
            ]
        return found

    def _counted(self, aliases: set[str]) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for (_, alias, version), series in self._metrics.series.items():
            if alias in aliases:
                found.setdefault(alias, Counter())[version] += series.statuses.total()
        return found


def _split(entry: AliasEntry) -> tuple[object, ...]:
    return entry.salt, tuple((each.adapter, each.percent) for each in entry.shares)
