"""The table that a gateway serves now: one pointer, swapped whole."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from runtime.gateway.routing import Lookup
from runtime.gateway.table import RoutingTable


class StaleTableError(ValueError):
    """A table that is not newer than the one being served."""


class Current:
    """Holds the lookup of the newest revision. Requests keep the one they started with."""

    def __init__(self) -> None:
        """Begin with an empty table, which nobody's key opens."""
        self.lookup = Lookup.of(RoutingTable(revision=0))
        self.loaded_at = datetime.now(UTC)
        self.on_change: Callable[[RoutingTable, RoutingTable], None] = _nobody_cares
        """Told of the table before and the one that is served from now on."""
        self._one_at_a_time = asyncio.Lock()

    async def take(self, table: RoutingTable) -> None:
        """Serve a table from now on; the one being served, again, is fine.

        Raises:
            StaleTableError: it is older than the one being served, or differs from it
                under the same revision.
            InvalidTableError: it must not be served.
        """
        async with self._one_at_a_time:
            served = self.lookup
            if table.revision < served.revision:
                raise StaleTableError(
                    f"revision {table.revision} is older than {served.revision}, which is served"
                )
            if table.revision == served.revision:
                if table.digest != served.digest:
                    raise StaleTableError(f"another table is served as revision {table.revision}")
                return
            self.lookup = await asyncio.to_thread(Lookup.of, table)
            self.loaded_at = datetime.now(UTC)
            self.on_change(served.table, table)

    def document(self) -> dict[str, object]:
        """Return what acknowledges a revision, as `GET /-/config` shows it."""
        return {
            "revision": self.lookup.revision,
            "digest": self.lookup.digest,
            "loaded_at": self.loaded_at.isoformat(timespec="milliseconds"),
        }


def _nobody_cares(_: RoutingTable, __: RoutingTable) -> None:
    """Do nothing with a change."""
