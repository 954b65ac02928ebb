"""Lists the licences of all installed packages, by environment: `make licences`.

fleetctl is under Apache-2.0, and imports what stands in its own environment: there a licence fails
that is unknown, or that would bind fleetctl's own code. Other environments hold programs that are
started, never imported; their licences are listed.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PERMISSIVE = re.compile(
    r"\b(0BSD|Apache|BSD|CC0|DFSG approved|ISC|MIT|MPL|Mozilla|PSF|Python Software|Unlicense|Zlib)",
    re.IGNORECASE,
)
"""Licences that lay nothing on code beside; of MPL files that are changed must be shown, alone."""
BINDING = re.compile(r"GPL|General Public|SSPL|proprietary|Commons Clause|non.?comm", re.IGNORECASE)
_JOINED = re.compile(r"\bAND\b|/")
REVIEWED = {
    "psycopg": "LGPL: imported unchanged, and can be exchanged; extra `postgres` alone",
    "psycopg-binary": "same",
    "sigstore-models": "MIT by its licence file; its metadata names none; extra `signing` alone",
    "axe-playwright-python": "MIT by its licence file; its metadata names none; tests alone",
}
"""Reason why a package with a binding licence may be imported, by its name."""


def licence_of(package: Distribution) -> str:
    """Return a package's licence: its expression, else its classifiers, else its first line."""
    fields = package.metadata
    expression, text = (fields.get_all(name) or [""] for name in ("License-Expression", "License"))
    named = [
        line.rpartition("::")[2].strip()
        for line in fields.get_all("Classifier") or []
        if "License ::" in line
    ]
    return expression[0] or " / ".join(named) or text[0].strip().partition("\n")[0][:60]


def is_free_to_import(name: str, licence: str) -> bool:
    """Say whether fleetctl may import a package of this licence; an unknown licence: no."""
    if name in REVIEWED:
        return True
    return any(
        all(PERMISSIVE.search(part) and not BINDING.search(part) for part in _JOINED.split(choice))
        for choice in re.split(r"\bOR\b", licence)
    )


def rows(site: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and licence of the packages in a folder of packages, by name."""
    found = {package.name.lower(): package for package in distributions(path=[str(site)])}
    for name, package in sorted(found.items()):
        yield name, package.version, licence_of(package)


def main() -> int:
    """Print the licences; return 1 where fleetctl may not import a package."""
    refused = []
    for environment in sorted(ROOT.glob(".venv*")):
        for site in sorted(environment.glob("lib/python*/site-packages")):
            print(f"# {environment.name}")
            for name, version, licence in rows(site):
                print(f"{name:40} {version:20} {licence or 'unknown'}")
                if environment.name == ".venv" and not is_free_to_import(name, licence):
                    refused.append(f"{name} {version}: {licence or 'unknown'}")
    for line in refused:
        print(f"fleetctl may not depend on {line}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
