"""Where usage rows go: to the log, and into the metrics, which so cannot differ from it."""

from collections.abc import Callable
from http import HTTPStatus

import msgspec

from runtime.gateway import refusals
from runtime.gateway.metrics import Metrics
from runtime.usage.log import UsageLog
from runtime.usage.row import LIVE, UsageRow

_ROW = msgspec.json.Encoder()


class Rows:
    """The rows of one gateway process, each written and counted once.

    A transport that sends what one turn of the event loop has made together may have the turn's
    rows written together too, before it sends: that costs one call of the kernel and not one each.
    """

    def __init__(self, log: UsageLog, metrics: Metrics) -> None:
        """Begin; each row is written at once until somebody asks to `gather`."""
        self._log = log
        self._metrics = metrics
        self._due: list[UsageRow] = []
        self._wake: Callable[[], None] | None = None

    def gather(self, wake: Callable[[], None]) -> None:
        """Keep rows from now on until `flush`, for which `wake` is to see in the same turn."""
        self._wake = wake

    def add(self, row: UsageRow) -> None:
        """Take a complete row.

        Raises:
            RefusalError: 503: the log could not take it; the request must not be answered.
        """
        if self._wake is None:
            self._write([row])
            return
        if not self._due:
            self._wake()
        self._due.append(row)

    def flush(self) -> None:
        """Write what was kept.

        Raises:
            RefusalError: 503: the log could not take it; none of its requests must be answered.
        """
        if self._due:
            due, self._due = self._due, []
            self._write(due)

    def stop_gathering(self) -> None:
        """Write what was kept, and whatever comes from now on at once.

        Raises:
            RefusalError: as `flush`.
        """
        self._wake = None
        self.flush()

    def _write(self, rows: list[UsageRow]) -> None:
        encode = _ROW.encode
        try:
            self._log.append(b"\n".join([encode(each) for each in rows]))
        except OSError:
            if all(each.status >= HTTPStatus.BAD_REQUEST for each in rows):
                return  # who was refused may know without a row
            raise refusals.unrecorded() from None
        for row in rows:
            if row.purpose != LIVE:
                self._metrics.count_other(row.purpose, row.status)
                continue
            self._metrics.count(
                (row.client, row.alias, row.version),
                row.status,
                row.latency_s,
                row.first_byte_s,
                row.input_tokens,
                row.output_tokens,
            )
