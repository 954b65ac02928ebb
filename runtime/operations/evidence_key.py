"""Show, accept and replace the keys that sign the ledger's evidence."""

from collections.abc import Mapping
from typing import Any

from fleet.errors import FleetError
from fleet.history import KeyAccepted, KeyTerm, keys_after, shown_key
from runtime.files import replace_file
from runtime.ledger.signing import KEY_FILE, public_of
from runtime.secrets import read_or_make_secret
from runtime.workspace import Workspace

NEXT: str = f"{KEY_FILE}.next"
"""File of a key that is not in use yet: a command that dies here is repeated."""


def evidence_keys(workspace: Workspace) -> dict[str, Any]:
    """Return the document of the key of this machine and of all keys that may sign."""
    keys: Mapping[str, KeyTerm] = {}
    for entry in workspace.ledger().read():
        keys = keys_after(keys, entry.seq, entry.event, entry.signature)
    own = workspace.signer.own
    return {
        "format": "fleetctl-evidence-keys",
        "format_version": "1.0",
        "own": own or None,
        "is_accepted": own in keys and keys[own].until is None,
        "keys": [
            {"key": key, "since": term.since, "until": term.until} for key, term in keys.items()
        ],
    }


def accept_key(workspace: Workspace, key: str) -> None:
    """Let another machine's key sign entries.

    Raises:
        FleetError: FC5145, the key of this machine may not sign.
    """
    _require_accepted(workspace)
    workspace.ledger().append([KeyAccepted(key)])


def replace_key(workspace: Workspace) -> str:
    """Put a new key in the place of the key of the state folder; return the new public key.

    Raises:
        FleetError: FC5145, the key of this machine may not sign, or is a declared secret.
    """
    if workspace.signer.declared:
        detail = f"`{workspace.signer.declared}` is declared, and fleetctl writes no such secret."
        hint = "Accept the new secret's key here first, then change the secret."
        command = "fleetctl evidence key --accept KEY"
        raise FleetError.of("FC5145", "The key cannot be used", detail, hint=hint, command=command)
    path = workspace.state_dir / NEXT
    secret = read_or_make_secret(path)
    new = public_of(secret)
    if new not in workspace.history().keys:
        _require_accepted(workspace)
        workspace.ledger().append([KeyAccepted(new, replaces=True)])
    replace_file(workspace.state_dir / KEY_FILE, f"{secret}\n".encode())
    path.unlink()
    return new


def begin_anew(workspace: Workspace, reason: str) -> str:
    """Let the key of this machine sign where no earlier key is left; return the public key.

    Raises:
        FleetError: FC5145, the key may sign already.
    """
    if evidence_keys(workspace)["is_accepted"]:
        detail = "The ledger accepts the key of this machine, so that none has to begin anew."
        command = "fleetctl evidence key"
        raise FleetError.of("FC5145", "The key cannot be used", detail, command=command)
    own = workspace.signer.made()
    workspace.ledger().append([KeyAccepted(own, lost=reason)])
    return own


def _require_accepted(workspace: Workspace) -> None:
    keys = evidence_keys(workspace)
    if keys["is_accepted"]:
        return
    detail = (
        f"The ledger does not accept key {shown_key(keys['own'])}."
        if keys["own"]
        else "There is no key here."
    )
    raise FleetError.of(
        "FC5145",
        "The key cannot be used",
        f"{detail} An accepted key accepts others.",
        hint="Bring the key back, or accept this one where the ledger's key is. If that key is "
        "lost, begin anew.",
        command="fleetctl evidence key --lost REASON",
    )
