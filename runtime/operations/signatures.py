"""Checks the signatures of versions: when a version is added, and again by the library's files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fleet.codes import diagnostic
from fleet.config import Lock, LockedAdapter, LockedSignature, signature_problem
from fleet.errors import LibraryError
from fleet.names import AdapterName
from fleet.signing_policy import SignedBytes, SigningSpec
from runtime.library.add import AddedVersion
from runtime.library.catalog import VersionCheck
from runtime.library.layout import version_folder
from runtime.project.load import library_folder
from runtime.project.signing_keys import TrustedKeys, trusted_keys
from runtime.signing.bundle import check_bundle, read_bundle
from runtime.workspace import Workspace


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
