"""The catalogue of error codes, `CODES.md`, looked up by code.

The file lies in this package, so that an installed fleetctl has it.
"""

import re
from functools import partial
from pathlib import Path

from fleet.errors import FleetError
from fleet.names import Address

CATALOGUE = Path(__file__).with_name("CODES.md")
_CODE = re.compile(r"FC[0-9]+", re.IGNORECASE)


def is_code(text: str) -> bool:
    """Say whether a text has the form of an error code, such as FC1210."""
    return _CODE.fullmatch(text) is not None


def explain_code(text: str) -> dict[Address, list[tuple[str, str]]]:
    """Return the entry of an error code, in the form of an explained resource.

    Raises:
        FleetError: FC5012, the catalogue has no such code.
    """
    entries = _entries(CATALOGUE.read_text(encoding="utf-8"))
    code = text.upper()
    if code not in entries:
        near = f"did you mean `{min(entries, key=partial(_distance, code))}`?"
        detail = f"`{code}` is not in the catalogue of {len(entries)} codes."
        raise FleetError.of("FC5012", "No such error code", detail, hint=near)
    return {Address(code): entries[code]}


def _distance(code: str, other: str) -> int:
    """Return how far two codes lie apart, digits read from the left: FC12100 is FC1210."""
    width = max(len(code), len(other))
    return abs(int(code[2:].ljust(width, "0")) - int(other[2:].ljust(width, "0")))


def _entries(page: str) -> dict[str, list[tuple[str, str]]]:
    entries: dict[str, list[tuple[str, str]]] = {}
    title, advice = "", ""
    for line in page.splitlines():
        if line.startswith("## "):
            title, advice = line[3:], ""
        elif line.startswith("| FC"):
            code, summary = (cell.strip() for cell in line.strip("|").split("|", 1))
            entries[code] = [("meaning", summary), ("part", title), ("what helps", advice)]
        elif title and line and not line.startswith("|"):
            advice = f"{advice} {line}".strip()
    return entries
