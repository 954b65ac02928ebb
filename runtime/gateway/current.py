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
        self.on_change: Callable[[Lookup, Lookup], None] = _nobody_cares
        """Told, in another thread, of what was served before and what is from now on."""
        self._one_at_a_time = asyncio.Lock()

    async def take(self, made: Lookup) -> None:
        """Serve a table from now on; the one being served, again, is fine.

        Raises:
            StaleTableError: it is older than the one being served, or differs from it
                under the same revision.
        """
        async with self._one_at_a_time:
            revision, digest = self.lookup.revision, self.lookup.digest
            if made.revision < revision:
                raise StaleTableError(
                    f"revision {made.revision} is older than {revision}, which is served"
                )
            if made.revision == revision:
                if made.digest != digest:
                    raise StaleTableError(f"another table is served as revision {revision}")
                return
            before = [self.lookup]
            self.lookup, self.loaded_at = made, datetime.now(UTC)
            await asyncio.to_thread(self._retire, before, made)

    def _retire(self, before: list[Lookup], made: Lookup) -> None:
        """Let go of what was served; in another thread, for a large table takes a while to free.

        It comes in a list, so that this is the last place which holds it.
        """
        self.on_change(before.pop(), made)

    def document(self) -> dict[str, object]:
        """Return what acknowledges a revision, as `GET /-/config` shows it."""
        return {
            "revision": self.lookup.revision,
            "digest": self.lookup.digest,
            "loaded_at": self.loaded_at.isoformat(timespec="milliseconds"),
        }


def _nobody_cares(_: Lookup, __: Lookup) -> None:
    """Do nothing with a change."""
