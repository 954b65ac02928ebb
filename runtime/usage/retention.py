"""Keeps the usage log of a gateway below its declared size: removes the oldest ingested files."""

from collections.abc import Iterator
from pathlib import Path

from runtime.usage.log import USAGE_FILE
from runtime.usage.segments import GATEWAYS, gateway_segments, log_bytes
from runtime.usage.store import UsageStore


def remove_oldest(state_dir: Path, gateway: str, limit: int) -> Iterator[str]:
    """Remove the oldest files of a log above its limit, in bytes; yield what was removed.

    Rows that are not in the store are not billed yet: a file that has some stays, whatever the
    size of the log. So does the file that is written. Raises `OSError`, and as `UsageStore`.
    """
    folder = state_dir / GATEWAYS / gateway
    excess = log_bytes(folder) - limit
    if excess <= 0:
        return
    with UsageStore(state_dir) as store:
        ingested = store.marks()
    for segment in gateway_segments(folder):  # by name, which is the time of the rotation
        is_closed = segment.path.name != USAGE_FILE
        if excess > 0 and is_closed and ingested.get(segment.key) == segment.end:
            excess -= segment.path.stat().st_size
            segment.path.unlink()
            yield (
                f"usage log of gateway {gateway} was above its `usage_log`: removed "
                f"{segment.path.name}, whose rows are in the store"
            )
