"""Reads the catalogue of error codes, from which `fleetctl explain` and `docs/errors.md` come."""

import re
import tomllib
from functools import cache, partial
from pathlib import Path
from typing import Final, NamedTuple

import fleetctl
from fleet.errors import FleetError
from fleet.names import Address

FOLDER: Final = Path(fleetctl.__file__).with_name("error_codes")
"""Lies in the package, so that an installed fleetctl has the files."""
EXAMPLES: Final = FOLDER / "examples.toml"
"""Printed errors of broken declarations by code; written by tests/test_codes.py."""
IS_CODE: Final = re.compile(r"FC[0-9]+", re.IGNORECASE)


class CodeEntry(NamedTuple):
    """An error code: its meaning, usual cause, remedy and example."""

    part: str
    advice: str
    """A remedy for all codes of the part."""
    summary: str
    cause: str
    fix: str
    example: str = ""
    printed: str = ""
    """An error of the code, as printed."""


@cache
def entries() -> dict[str, CodeEntry]:
    """Return the entries by code, part by part."""
    printed = tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))
    found: dict[str, CodeEntry] = {}
    for path in sorted(FOLDER.glob("fc*.toml")):
        part = tomllib.loads(path.read_text(encoding="utf-8"))
        title, advice = part.pop("title"), part.pop("advice")
        for code, entry in part.items():
            found[code] = CodeEntry(title, advice, **entry, printed=printed.get(code, ""))
    return found


def explain_code(text: str) -> dict[Address, list[tuple[str, str]]]:
    """Return the entry of an error code, in the form of an explained resource.

    Raises:
        FleetError: FC5012, the catalogue has no such code.
    """
    code, known = text.upper(), entries()
    if code not in known:
        near = f"did you mean `{min(known, key=partial(_distance, code))}`?"
        detail = f"`{code}` is not in the catalogue of {len(known)} codes."
        raise FleetError.of("FC5012", "No such error code", detail, hint=near)
    entry = known[code]
    facts = [
        ("meaning", entry.summary),
        ("part", entry.part),
        ("usual cause", entry.cause),
        ("fix", entry.fix),
        ("example", entry.example),
        *zip(("printed", *[""] * 99), entry.printed.splitlines(), strict=False),
        ("always helps", entry.advice),
    ]
    return {Address(code): [(label, said) for label, said in facts if said]}


def _distance(code: str, other: str) -> int:
    """Return how far two codes lie apart, digits read from the left: FC12100 is FC1210."""
    width = max(len(code), len(other))
    return abs(int(code[2:].ljust(width, "0")) - int(other[2:].ljust(width, "0")))
