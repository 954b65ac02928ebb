"""The table that a gateway serves now: one pointer, swapped whole."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from runtime.gateway.breathing import Breathe, breather
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
        self.compare: Callable[[RoutingTable, RoutingTable, Breathe], Callable[[], None]] = _alike
        """Called in a thread with the table before and a new one; what it returns is called by
        the event loop once the new one is served, and is quick."""
        self._one_at_a_time = asyncio.Lock()
        self._retiring: asyncio.Future[None] | None = None

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
            self.lookup, change = await asyncio.to_thread(self._prepared, served.table, table)
            self.loaded_at = datetime.now(UTC)
            change()
            parts = [*served.parts()]  # freed one by one once the rest of it is gone
            del served
            self._retiring = asyncio.get_running_loop().run_in_executor(None, _free, parts)

    def _prepared(
        self, before: RoutingTable, after: RoutingTable
    ) -> tuple[Lookup, Callable[[], None]]:
        breathe = breather()
        return Lookup.of(after, breathe), self.compare(before, after, breathe)

    def document(self) -> dict[str, object]:
        """Return what acknowledges a revision, as `GET /-/config` shows it."""
        return {
            "revision": self.lookup.revision,
            "digest": self.lookup.digest,
            "loaded_at": self.loaded_at.isoformat(timespec="milliseconds"),
        }


def _free(parts: list[object]) -> None:
    breathe = breather()
    while parts:
        parts.pop()
        breathe()


def _alike(_: RoutingTable, __: RoutingTable, ___: Breathe) -> Callable[[], None]:
    return lambda: None
