"""Mending: damaged copies that servers load from are made good again from the library."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import LibraryError
from fleet.lock import Lock
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter
from runtime.library.layout import version_folder
from runtime.library.store import publish


@dataclass(frozen=True, slots=True)
class Mending:
    """What became of one damaged copy."""

    digest: str
    mended: bool
    text: str
    """What was done, or why nothing could be; without the full stop."""
    left: str
    """What a person has to see to; without the full stop, empty if nothing was done."""


def mend(
    wrong: Mapping[str, str],
    adapters: Iterable[LoadedAdapter],
    lock: Lock,
    library: Path,
    store: Path,
) -> tuple[Mending, ...]:
    """Put the library's bytes in the place of damaged copies, where they are those of the lock.

    Args:
        wrong: By digest: what is wrong with the copy, as `damaged` says it.
        adapters: What servers list.
        lock: What is pinned; it names the versions that a copy can be made from.
        library: The library's folder.
        store: Folder of the copies.
    """
    servers: dict[str, set[str]] = defaultdict(set)
    for each in adapters:
        servers[each.digest or ""].add(each.server)
    return tuple(
        _mend(digest, text, sorted(servers[digest]), _versions(digest, lock, library), store)
        for digest, text in wrong.items()
    )


def _versions(digest: str, lock: Lock, library: Path) -> dict[str, Path]:
    return {
        name: version_folder(library, AdapterName.parse(name))
        for name, each in sorted(lock.adapters.items())
        if each.digest == digest
    }


def _mend(
    digest: str, wrong: str, servers: list[str], versions: Mapping[str, Path], store: Path
) -> Mending:
    why = "fleet.lock pins no version with this digest"
    for name, folder in versions.items():
        try:
            publish(folder, digest, store)
        except LibraryError as error:
            why = " ".join(f"{each.detail} {each.hint}" for each in error.diagnostics).strip(" .")
            continue
        text = f"repaired the served copy of {name} from the library; found: it {wrong}"
        left = (
            f"{', '.join(servers)}: what read the copy meanwhile holds those bytes until it is "
            "restarted, a moment without answers for its clients: `fleetctl server stop NAME`, "
            "`fleetctl reconcile --once`"
        )
        return Mending(digest, mended=True, text=text, left=left)
    return Mending(digest, mended=False, text=f"cannot repair `{store / digest}`: {why}", left="")
