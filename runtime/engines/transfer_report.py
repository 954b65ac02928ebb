"""Tells of folders on their way to hosts."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from runtime.engines.protocol import Report
from runtime.engines.source_folder import SourceFolder

_REPORT_S: Final = 5.0
"""Time between two reports of a transfer. Seconds."""


@dataclass(slots=True)
class TransferReport:
    """Tells of a folder on its way to a host every `_REPORT_S` seconds, and of faults at once."""

    host: str
    source: SourceFolder
    report: Report
    _told: float = field(default_factory=monotonic)

    def __call__(self, done: int, size: int) -> None:
        """Take the bytes that are there, and those of the folder."""
        if monotonic() - self._told >= _REPORT_S:
            self._told = monotonic()
            self.report(f"{self.source.folder.name} to {self.host}", done, size)

    def begun_anew(self, why: str) -> None:
        """Tell why the folder is brought once more."""
        what = f"{self.source.folder.name} to {self.host} once more, as {why}"
        self.report(what, 0, self.source.size)
