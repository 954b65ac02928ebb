"""Checks the bytes of a version before every load, as `adapter add` does.

A version may be pinned by hand, or its base may have changed since. Configuration, header, lock and
base are checked anew every time, in milliseconds. That no value is NaN or infinite, which takes
longer, is remembered by digest: bytes of the same digest have the same values.
"""

import hmac
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import Diagnostic, FleetError, LibraryError
from fleet.names import AdapterName
from fleet.spec import AdapterFacts
from runtime.files import read_plain, replace_file
from runtime.library.add import KnownBase
from runtime.library.inspect import AdapterWeights, check_values, does_nothing, inspect
from runtime.secrets import make_key, write_secret

FORMAT: Final = "fleetctl-finite-1"
"""Format of an entry; changes with what `check_values` finds."""
MOST: Final = 3
"""Upper bound of the findings that an error names."""
OTHER_BASE: Final = "FC3110"
SILENT: Final = "FC3133"
"""Answers of such a version are those of its base; under load, a smoke test may not tell."""


@dataclass(frozen=True, slots=True)
class FiniteValues:
    """The digests whose values were all found finite, a file for every digest.

    An entry is signed with a key of its folder. An entry that is torn, of another digest or of
    another folder is no entry. A folder that cannot be written is no error.
    """

    folder: Path

    def silent(self, digest: str) -> bool | None:
        """Return whether the adapter answers as its base does; None: its values are not known."""
        try:
            entry = read_plain(self.folder / digest)
            key = read_plain(self.folder / "key")
        except OSError:
            return None
        known = (silent for silent in (False, True) if _entry(key, digest, silent=silent) == entry)
        return next(known, None)

    def add(self, digest: str, *, silent: bool) -> None:
        """Remember that all values of a digest are finite; makes no state folder."""
        if not self.folder.parents[1].is_dir():
            return
        with suppress(OSError):
            with suppress(FleetError):  # there is a key
                write_secret(make_key(), self.folder / "key")
            key = read_plain(self.folder / "key")
            replace_file(self.folder / digest, _entry(key, digest, silent=silent))


def _entry(key: bytes, digest: str, *, silent: bool) -> bytes:
    text = f"{FORMAT} {digest} {silent:d}"
    return f"{text} {hmac.digest(key, text.encode(), 'sha256').hex()}\n".encode()


@dataclass(frozen=True, slots=True)
class Preflight:
    """The check of a version's bytes, with the facts that the bytes are compared with."""

    bases: Mapping[str, KnownBase]
    versions: Mapping[str, AdapterFacts]
    """Facts in the lock by full name."""
    finite: FiniteValues
    served: Mapping[str, str]
    """Digests of versions that were loaded before, by full name.

    For these, another name of the base, and an adapter that does nothing, is a warning.
    """

    def check(self, name: str, digest: str, folder: Path) -> tuple[Diagnostic, ...]:
        """Check the bytes in a folder, which have this digest, and return warnings.

        Raises:
            LibraryError: FC3030, the version must not be loaded; FC3032, its base is not known.
        """
        parts = AdapterName.parse(name)
        base = self.bases.get(parts.base)
        if base is None:
            raise LibraryError.of(
                "FC3032",
                "Version cannot be checked before the load",
                f"Nothing says which adapters fit base `{parts.base}` of `{name}`: its config.json "
                "is not here, and the lock does not know it.",
                hint="Put the base's config.json into the library, or restore fleet.lock.",
            )

        def scan(path: Path, weights: AdapterWeights) -> tuple[Diagnostic, ...]:
            silent = self.finite.silent(digest)
            if silent is not None:
                return (does_nothing(),) if silent else ()
            found = tuple(check_values(path, weights))
            if all(problem.severity == "warning" for problem in found):
                self.finite.add(digest, silent=bool(found))
            return found

        names = base.name, base.model, *base.known_as
        try:
            facts, warnings = inspect(folder, base.shape, *names, digest=digest, scan=scan)
        except LibraryError as error:
            raise _refused(name, error.diagnostics) from None
        wrong = [*self._differences(name, facts)]
        if self.served.get(name) != digest:
            wrong += [warning for warning in warnings if warning.code in (OTHER_BASE, SILENT)]
        if wrong:
            raise _refused(name, tuple(wrong))
        return warnings

    def _differences(self, name: str, facts: AdapterFacts) -> Iterator[Diagnostic]:
        """Yield where the lock says otherwise than the bytes; placement goes by the lock."""
        pinned = self.versions.get(name)
        if pinned is None or pinned.digest != facts.digest:
            return
        for key in ("rank", "bytes", "modules"):
            is_so, said = getattr(facts, key), getattr(pinned, key)
            if is_so != said:
                detail = f"`{key}` is {_shown(is_so)}, and the lock says {_shown(said)}."
                yield Diagnostic("FC3031", "Lock does not describe the bytes", detail)


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _refused(name: str, found: tuple[Diagnostic, ...]) -> LibraryError:
    """Return the error of a version that must not be loaded, with the first findings."""
    texts = [f"{problem.summary} ({problem.code}): {problem.detail}" for problem in found[:MOST]]
    more = f" And {len(found) - MOST} more." if len(found) > MOST else ""
    hint = (
        "Declare another version; these bytes never change. `fleetctl adapter add` refuses such a "
        "version."
    )
    if any(problem.code == SILENT for problem in found):
        hint = "Declare a version that was trained; these bytes never change."
    if any(problem.code == OTHER_BASE for problem in found):
        hint = "If it is the same base under another name, list the name in `known_as` of the base."
    return LibraryError.of(
        "FC3030",
        "Version must not be loaded",
        f"`{name}` on a shared server could spoil the answers of other clients, or answer as "
        f"another model. {' '.join(texts)}{more}",
        hint=hint,
        command=f"fleetctl adapter show {name}",
    )
