"""Names the home of a fleet, and remembers the home for while declarations are broken."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fleet.codec import decode, decode_json
from runtime.files import make_private, read_plain, replace_file

HOME_FILE: Final = "home.json"
"""File of the state folder."""
KNOWN_FILE: Final = "shared.json"
"""File of the state folder with the versions that its files have in the home."""


@dataclass(frozen=True, slots=True)
class HomeAddress:
    """The address of a home; without a database and a folder, the state folder is the home."""

    fleet: str = ""
    """Name of the fleet: a database has many."""
    postgresql: str = ""
    """Where the URI of the database is kept, `env:NAME` or `file:PATH`; never the URI itself."""
    folder: str = ""
    evidence_key: str = ""
    """Where the secret is kept that signs entries, `env:NAME` or `file:PATH`; empty: in the state
    folder.
    """

    @property
    def is_state_folder(self) -> bool:
        """Whether the state folder is the home."""
        return not (self.postgresql or self.folder)

    def __str__(self) -> str:
        """Return the home as people name homes."""
        if self.postgresql:
            return f"the database of `{self.postgresql}`"
        return f"`{self.folder}`" if self.folder else "the state folder"


def remembered_home(state_dir: Path) -> HomeAddress:
    """Return the home as last declared; the state folder, where no other ever was."""
    with suppress(OSError, ValueError, TypeError):
        document = decode_json(read_plain(state_dir / HOME_FILE))
        return decode(HomeAddress, document, HOME_FILE, lenient=True)
    return HomeAddress()


def remember_home(state_dir: Path, home: HomeAddress) -> None:
    """Save the home as declared, where another home was declared before; versions there are void.

    Raises:
        OSError: it cannot be written.
    """
    before = remembered_home(state_dir)
    here = home.is_state_folder and before.is_state_folder
    if home == before or (here and home.evidence_key == before.evidence_key):
        return
    make_private(state_dir)
    (state_dir / KNOWN_FILE).unlink(missing_ok=True)
    replace_file(state_dir / HOME_FILE, json.dumps(asdict(home)).encode() + b"\n")
