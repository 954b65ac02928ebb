"""The split as it is, beside the split as it should be, since it was last changed."""

from collections import Counter
from datetime import UTC, datetime

from runtime.gateway.metrics import Metrics
from runtime.gateway.routing import Lookup


class Shares:
    """Remembers what had been counted when the split of an alias began."""

    def __init__(self, metrics: Metrics) -> None:
        """Begin; counts come from the metrics, so that the two cannot differ."""
        self._metrics = metrics
        self._began: dict[str, tuple[datetime, Counter[str]]] = {}

    def changed(self, before: Lookup, after: Lookup) -> None:
        """Begin anew for each alias whose split is another one now."""
        now = datetime.now(UTC)
        fresh = set()
        for name, alias in after.all():
            was = before.find_any(name)
            if was is None or was.split != alias.split:
                fresh.add(name)
        counted = self._counted(fresh)
        began = {name: each for name, each in self._began.items() if after.find_any(name)}
        self._began = began | {name: (now, counted.get(name, Counter())) for name in fresh}

    def document(self, lookup: Lookup) -> list[dict[str, object]]:
        """Return each version's percent and requests, of aliases with more than one version."""
        split = {name: each for name, each in lookup.all() if len(each.branches) > 1}
        counted = self._counted(set(split))
        found: list[dict[str, object]] = []
        for alias in sorted(split):
            since, before = self._began.get(alias, (datetime.now(UTC), Counter()))
            now = counted.get(alias, Counter())
            found += [
                {
                    "alias": alias,
                    "adapter": (adapter := branch.choice.adapter),
                    "percent": branch.percent,
                    "requests": now[adapter] - before[adapter],
                    "since": since.isoformat(timespec="seconds"),
                }
                for branch in split[alias].branches
            ]
        return found

    def _counted(self, aliases: set[str]) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for (_, alias, version), series in [
            *self._metrics.series.items()
        ]:  # others may count meanwhile
            if alias in aliases:
                found.setdefault(alias, Counter())[version] += series.statuses.total()
        return found
