"""Brings versions from their sources into the library, and hands versions over to a registry."""

import asyncio
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from fleet.codes import diagnostic
from fleet.config import (
    SHIPPED,
    Declarations,
    Lock,
    LockedAdapter,
    LockedSignature,
    SigningKey,
    check_shape,
    declared_extensions,
    declared_same_bytes,
    signature_problem,
)
from fleet.errors import ConfigError, LibraryError
from fleet.names import AdapterName
from fleet.policies import SignatureState, SignedBytes, SigningKeySpec, SigningSpec
from runtime.files import locked_folder, make_private, replace_file
from runtime.library.add import AddedVersion, KnownBase, add
from runtime.library.catalog import CatalogVersion, VersionCheck
from runtime.library.inspect import require_folder
from runtime.library.layout import SIGNATURE, folder_digest, version_folder
from runtime.library.signatures import check_bundle, fingerprint, read_bundle, read_key
from runtime.project.facts import read_lock
from runtime.project.known_base import known_base
from runtime.project.load import library_folder, read_files, read_tree
from runtime.sources.download import Report, bring, listed
from runtime.sources.opening import contacted, open_registry, open_source
from runtime.sources.push import push
from runtime.sources.reference import SourceReference
from runtime.trust import require_contact
from runtime.workspace import Call


class TrustedKeys(NamedTuple):
    """The declared keys that can be read."""

    specs: tuple[SigningKeySpec, ...]
    pems: Mapping[str, bytes]
    """By fingerprint."""


def trusted_keys(root: Path, environment: str | None, variables: Mapping[str, str]) -> TrustedKeys:
    """Return the declared keys that can be read; `validate` reports the others.

    A fleet that names a version is valid once the lock has the version, so that only the entries
    of the keys are read.

    Raises:
        ConfigError: the declarations cannot be read.
    """
    declared = read_tree(read_files(root, environment), environment, variables).value
    found = declared.get("signatures")
    specs, pems = list[SigningKeySpec](), dict[str, bytes]()
    for name, its in sorted(found.items()) if isinstance(found, dict) else ():
        with suppress(ValidationError, ConfigError):
            key = SigningKey.model_validate(its, extra="ignore")
            pem = read_key(root, key.file)
            if pem and (known := fingerprint(pem)):
                specs.append(SigningKeySpec(str(name), known, key.until))
                pems[known] = pem
    return TrustedKeys(tuple(specs), pems)


_UNKNOWN: Final = "unknown"
"""State of a signature that is none of `SignatureState`: neither lock nor library tells it."""


def keys_of(call: Call) -> TrustedKeys:
    """Return the declared keys that can be read.

    Raises:
        ConfigError: the declarations cannot be read.
    """
    return trusted_keys(call.root, call.environment, call.variables)


def signed_bytes(folder: Path, keys: TrustedKeys) -> SignedBytes | None:
    """Return the content of the signature beside a version's files.

    None: there is none, or no key is declared: then nothing is checked, and no library needed.

    Raises:
        LibraryError: FC3057, the extra `signing` is not installed; FC3118.
    """
    bundle = read_bundle(folder) if keys.pems else None
    return None if bundle is None else check_bundle(bundle, keys.pems)


def with_signature(
    call: Call, added: AddedVersion, signed: SignedBytes | None, keys: TrustedKeys
) -> AddedVersion:
    """Return a version that was added, with its key, or a warning if its signature does not count.

    A version without a signature is not warned of: `validate` knows whether it needs one.
    """
    if signed is None:
        return added
    name, today = str(added.name), call.now().date()
    told = LockedSignature.of(signed, added.facts.digest).told
    signing = SigningSpec(keys.specs, {name: told})
    if wrong := signature_problem(name, signing, today):
        warning = diagnostic(wrong.code, wrong.detail, hint=wrong.hint, severity="warning")
        return replace(added, warnings=(*added.warnings, warning))
    key = signing.key(signed.key)
    return replace(added, signed_by=key.name if key else "")


def require_as_locked(
    name: str, entry: LockedAdapter, signed: SignedBytes | None, keys: TrustedKeys
) -> None:
    """Refuse a version that fleet.lock calls signed by a declared key, and that is not.

    Raises:
        LibraryError: FC3058.
    """
    if fault := _contradiction(entry, signed, keys):
        hint = "Somebody wrote the signature into fleet.lock, or replaced `model.sig`: ask in "
        hint += "`git log fleet.lock` who did. Nothing of it was added."
        raise LibraryError.of(
            "FC3058", "Signature is not as fleet.lock says", f"`{name}`: {fault}.", hint=hint
        )


def _contradiction(entry: LockedAdapter, signed: SignedBytes | None, keys: TrustedKeys) -> str:
    """Return why a signature is not as locked; empty: it is, or the lock says nothing that counts.

    A key that is no longer declared makes nothing count.
    """
    locked = entry.signature
    key = SigningSpec(keys.specs).key(locked.key) if locked and locked.matches else None
    if locked is None or key is None:
        return ""
    if signed is None:
        return f"fleet.lock says that `{key.name}` signed it, and there is no `model.sig`"
    if signed.key != locked.key:
        return f"fleet.lock says that `{key.name}` signed it, and `model.sig` is not by that key"
    if signed.digest != entry.digest:
        return f"fleet.lock says that `{key.name}` signed it, and `model.sig` is for other bytes"
    return ""


def signature_checks(call: Call, lock: Lock, names: Sequence[str]) -> Iterator[VersionCheck]:
    """Yield the versions of the library whose signature is not as locked, after a new check."""
    keys, library = keys_of(call), library_folder(call.root)
    for name in sorted(names or lock.adapters):
        folder = version_folder(library, AdapterName.parse(name))
        entry = lock.adapters[name]
        if entry.signature is None or not folder.is_dir():
            continue
        if fault := _contradiction(entry, signed_bytes(folder, keys), keys):
            yield VersionCheck(name, "unproven", folder, fault)


def signature_document(call: Call, version: CatalogVersion) -> dict[str, Any]:
    """Return the signature of a version by the word of fleet.lock; nothing is checked.

    The lock does not tell a version without a signature from one that was added while no key was
    declared: the version's folder does.
    """
    locked = version.locked.signature if version.locked else None
    if locked is None:
        state = SignatureState.UNSIGNED.value if _is_unsigned(version.folder) else _UNKNOWN
        return {"state": state, "key": None, "signed_by": None, "until": None}
    told, known = {version.name: locked.told}, True
    try:
        signing = SigningSpec(keys_of(call).specs, told)
    except ConfigError:  # then only the lock is known
        signing, known = SigningSpec((), told), not locked.key
    key = signing.key(locked.key)
    state = signing.state(version.name, call.now().date()).value if known else _UNKNOWN
    return {
        "state": state,
        "key": locked.key or None,
        "signed_by": key.name if key else None,
        "until": key.until.isoformat() if key and key.until else None,
    }


def _is_unsigned(folder: Path) -> bool:
    """Say whether a version is in the library and no signature lies beside its files."""
    try:
        (folder / SIGNATURE).lstat()
    except FileNotFoundError:
        return folder.is_dir()
    except OSError:
        return False
    return False


_INCOMING = ".incoming"
"""Folder of the library for versions that have arrived in part."""
_FILES = "files"


@dataclass(frozen=True, slots=True)
class Brought:
    """A version that has arrived, still outside of the library's versions."""

    folder: Path
    pinned: str
    """Reference that is written into the lock."""


def parsed_reference(call: Call, text: str) -> SourceReference | None:
    """Read a reference; the declarations are read where no shipped source has its scheme.

    Raises:
        LibraryError: FC3050, as `SourceReference.parse`.
    """
    scheme, found, _ = text.partition("://")
    packages: Mapping[str, str] = {}
    if found and scheme not in SHIPPED["sources"]:
        given = _declarations(call)
        packages = declared_extensions(given).get("sources", {}) if given else {}
    return SourceReference.parse(text, packages)


def _declarations(call: Call) -> Declarations | None:
    texts = read_files(call.root, call.environment)
    tree = read_tree(texts, call.environment, call.variables)
    return check_shape(tree.value)[0]


@contextmanager
def brought(reference: SourceReference, library: Path, report: Report) -> Iterator[Brought]:
    """Bring a version's files; the folder is there while the block runs, and gone after success.

    What has arrived before an interruption is kept, and taken up again.

    Raises:
        LibraryError: FC3003, FC3050 to FC3055.
    """
    name = hashlib.sha256(str(reference).encode()).hexdigest()[:16]
    folder = library / _INCOMING / name
    make_private(folder)
    with locked_folder(folder):
        pinned = asyncio.run(_bring(reference, folder, report))
        yield Brought(folder / _FILES, pinned)
        shutil.rmtree(folder)


async def _bring(reference: SourceReference, folder: Path, report: Report) -> str:
    source = open_source(reference)
    try:
        listing = await listed(source, str(reference))
        _empty_if_changed(folder, repr(listing))
        await bring(source, listing, folder / _FILES, report)
    finally:
        await source.close()
    return listing.pinned


def _empty_if_changed(folder: Path, listing: str) -> None:
    """Delete the files of another listing: a tag has moved, or files have changed since."""
    mark = folder / "listing"
    known = mark.read_text("utf-8") if mark.exists() else ""
    if known == listing:
        return  # a full disk would take the mark that is there, and with it what has arrived
    if known:
        shutil.rmtree(folder / _FILES, ignore_errors=True)
    replace_file(mark, listing.encode())


def add_from(
    call: Call, reference: SourceReference, name: AdapterName, report: Report
) -> AddedVersion:
    """Bring a version from its source, check the files, and pin bytes and source.

    Raises:
        LibraryError: as `brought`, `signed_bytes` and `add`; FC3058, where the library lacks it.
    """
    library = library_folder(call.root)
    base = known_base(call.root, call.environment, call.variables, name.base)
    with brought(reference, library, report) as found:
        return _add(call, found.folder, name, base, found.pinned)


def add_path(call: Call, path: Path, name: AdapterName) -> AddedVersion:
    """Add a version from a folder of this machine.

    Raises:
        LibraryError: as `signed_bytes` and `add`.
    """
    require_folder(path)
    base = known_base(call.root, call.environment, call.variables, name.base)
    return _add(call, path, name, base)


def _add(
    call: Call, folder: Path, name: AdapterName, base: KnownBase, origin: str = ""
) -> AddedVersion:
    library, keys = library_folder(call.root), keys_of(call)
    signed = signed_bytes(folder, keys)
    entry = read_lock(call.root).adapters.get(str(name))
    if entry and not version_folder(library, name).is_dir():
        require_as_locked(str(name), entry, signed, keys)
    given = _declarations(call)
    same_bytes = declared_same_bytes(given) if given else {}
    added = add(folder, name, base, library, call.root, origin, signed, same_bytes)
    return with_signature(call, added, signed, keys)


def missing_versions(call: Call, names: Sequence[str]) -> dict[str, str]:
    """Return the sources of locked versions that the library lacks, by name; empty: unknown."""
    library, lock = library_folder(call.root), read_lock(call.root)
    return {
        name: entry.source
        for name, entry in sorted(lock.adapters.items())
        if (not names or name in names)
        and not version_folder(library, AdapterName.parse(name)).is_dir()
    }


def refuse_offline(missing: Sequence[str]) -> None:
    """Raise where versions are missing and nothing may be fetched.

    Raises:
        LibraryError: FC3056.
    """
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LibraryError.of(
            "FC3056",
            "Version is not here, and nothing may be fetched",
            f"`{missing[0]}`{more}: the library has no such folder.",
            hint="Leave --offline out, or bring the library's folder here.",
        )


def pull(call: Call, name: str, report: Report) -> AddedVersion:
    """Bring a locked version back from the source that the lock names; its bytes must be the same.

    Raises:
        UntrustedError: FC1270, the host is named by the lock alone.
        LibraryError: FC3053, the lock names no source; or as `add_from`.
    """
    lock: Lock = read_lock(call.root)
    reference = parsed_reference(call, lock.adapters[name].source)
    if reference is None:
        detail = f"fleet.lock names no source of `{name}`: it was added from a folder."
        hint = "Bring its folder here from where it was added."
        raise LibraryError.of("FC3053", "Source has no such version", detail, hint=hint)
    if url := contacted(reference):
        require_contact(url)
    return add_from(call, reference, AdapterName.parse(name), report)


def push_version(call: Call, name: AdapterName, reference: SourceReference, report: Report) -> str:
    """Push a locked version to a registry; return its reference by digest.

    Raises:
        LibraryError: FC3011, the library's bytes are not those of the lock; FC3051 to FC3053.
    """
    entry = read_lock(call.root).adapters[str(name)]
    folder = version_folder(library_folder(call.root), name)
    if folder_digest(folder) != entry.digest:
        detail = f"`{folder}` has other bytes than fleet.lock pins for `{name}`."
        raise LibraryError.of(
            "FC3011", "Version exists with other bytes", detail, command="fleetctl adapter verify"
        )

    async def run() -> str:
        registry = open_registry(reference, writes=True)
        try:
            return await push(registry, folder, name, entry.facts, report)
        finally:
            await registry.close()

    return asyncio.run(run())
