"""Checks the signatures of versions: when a version is added, and again by the library's files.

Tells what fleet.lock has of a version's signature, without a check.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from fleet.codes import diagnostic
from fleet.config import Lock, LockedAdapter, LockedSignature, SigningKey, signature_problem
from fleet.errors import ConfigError, LibraryError
from fleet.names import AdapterName
from fleet.policies import SignatureState, SignedBytes, SigningKeySpec, SigningSpec
from runtime.library.add import AddedVersion
from runtime.library.catalog import CatalogVersion, VersionCheck
from runtime.library.layout import SIGNATURE, version_folder
from runtime.project.load import library_folder, read_files, read_tree
from runtime.signing.bundle import check_bundle, fingerprint, read_bundle, read_key
from runtime.workspace import Workspace


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


def keys_of(workspace: Workspace) -> TrustedKeys:
    """Return the declared keys that can be read.

    Raises:
        ConfigError: the declarations cannot be read.
    """
    return trusted_keys(workspace.root, workspace.environment, workspace.variables)


def signed_bytes(folder: Path, keys: TrustedKeys) -> SignedBytes | None:
    """Return the content of the signature beside a version's files.

    None: there is none, or no key is declared: then nothing is checked, and no library needed.

    Raises:
        LibraryError: FC3057, the extra `signing` is not installed; FC3118.
    """
    bundle = read_bundle(folder) if keys.pems else None
    return None if bundle is None else check_bundle(bundle, keys.pems)


def with_signature(
    workspace: Workspace, added: AddedVersion, signed: SignedBytes | None, keys: TrustedKeys
) -> AddedVersion:
    """Return a version that was added, with its key, or a warning if its signature does not count.

    A version without a signature is not warned of: `validate` knows whether it needs one.
    """
    if signed is None:
        return added
    name, today = str(added.name), workspace.now().date()
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


def signature_checks(
    workspace: Workspace, lock: Lock, names: Sequence[str]
) -> Iterator[VersionCheck]:
    """Yield the versions of the library whose signature is not as locked, after a new check."""
    keys, library = keys_of(workspace), library_folder(workspace.root)
    for name in sorted(names or lock.adapters):
        folder = version_folder(library, AdapterName.parse(name))
        entry = lock.adapters[name]
        if entry.signature is None or not folder.is_dir():
            continue
        if fault := _contradiction(entry, signed_bytes(folder, keys), keys):
            yield VersionCheck(name, "unproven", folder, fault)


def signature_document(workspace: Workspace, version: CatalogVersion) -> dict[str, Any]:
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
        signing = SigningSpec(keys_of(workspace).specs, told)
    except ConfigError:  # then only the lock is known
        signing, known = SigningSpec((), told), not locked.key
    key = signing.key(locked.key)
    state = signing.state(version.name, workspace.now().date()).value if known else _UNKNOWN
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
