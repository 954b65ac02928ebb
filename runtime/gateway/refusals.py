"""Which requests that no server had leave a row in the usage log, so that they fill no disk."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from runtime.usage.row import COUNTING, LIVE, UsageRow

ROWS_AN_HOUR: Final = 1000
"""Upper bound of the rows of a client's requests that no server had, by hour: half a megabyte."""
_HOUR_S: Final = 3600.0


@dataclass(slots=True)
class RefusalQuota:
    """The rows of requests that no server had: none without a valid key, few an hour with one."""

    clock: Callable[[], float] = time.monotonic
    """Unit: seconds."""
    unlogged: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests without a row, by client and status; without a valid key, client ''."""
    _rows: Counter[str] = field(default_factory=Counter)
    """Rows since `_began`, by client."""
    _began: float = 0.0

    def leaves_row(self, row: UsageRow) -> bool:
        """Return whether a request is in the log: all but what no server had beyond the quota.

        Without end: what a server had, what found no server for its version (gates and alerts
        count these errors), and requests of the operator.
        """
        client, status = row.client, row.status
        has_met_servers = row.server or (row.version and status >= HTTPStatus.INTERNAL_SERVER_ERROR)
        is_answer = status < HTTPStatus.BAD_REQUEST
        if has_met_servers or is_answer or row.purpose not in {LIVE, COUNTING}:
            return True
        if (now := self.clock()) - self._began >= _HOUR_S:
            self._began, self._rows = now, Counter()
        self._rows[client] += 1
        if client and self._rows[client] <= ROWS_AN_HOUR:
            return True
        self.unlogged[client, status] += 1
        return False

    def by_client(self) -> dict[str, int]:
        """Return the number of requests without a row."""
        counts: Counter[str] = Counter()
        for (client, _), count in self.unlogged.items():
            counts[client] += count
        return dict(sorted(counts.items()))
