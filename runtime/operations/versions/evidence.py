"""Verify the ledger's evidence: chain, verdicts, answers, usage rows, limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from fleet.errors import FleetError
from fleet.gates import soaking
from fleet.history import (
    Entry,
    KeyAccepted,
    KeyTerm,
    check_evidence,
    distrust,
    keys_after,
    shown_key,
)
from fleet.resources import FULL
from runtime.files import replace_file
from runtime.gates.evidence import changed_runs
from runtime.gates.recount import RecountState, recounted
from runtime.ledger.chain import KEY_FILE, SIGNED, public_of
from runtime.ledger.checkpoint import CHECKPOINT_FILE, is_forged
from runtime.secrets import read_or_make_secret
from runtime.workspace import Call, LedgerContext, Workspace

PROBLEMS: Final = (
    "head_lost", "wrong", "not_believed", "changed_evaluations", "recounts_differ", "lacking",
    "checkpoint_forged",
)  # fmt: skip
"""Keys of the document that hold differences; empty or false where all is."""


def verify_evidence(workspace: Workspace, head: str | None) -> dict[str, Any]:
    """Return the document of a check; `head`: hash that an entry must begin with.

    Raises:
        FleetError: FC5102, the chain is broken.
    """
    entries, state_dir = workspace.ledger.open().read(), workspace.state_dir
    checks, recounts = list(check_evidence(entries)), list(_recounts(workspace, entries))
    lacking = workspace.ledger.replica.lacking(entries)
    return {
        "format": "fleetctl-evidence-check",
        "format_version": "1.1",
        "entries": len(entries),
        "head": entries[-1].hash if entries else None,
        "asked_head": head,
        "head_lost": head is not None and not any(entry.hash.startswith(head) for entry in entries),
        "verdicts": len(checks),
        "wrong": [asdict(check) for check in checks if check.differs],
        **_signatures(workspace.ledger, entries),
        "changed_evaluations": dict(changed_runs(entries, state_dir)),
        "counted_again": sum(found["state"] == RecountState.SAME for found in recounts),
        "recounts_differ": [f for f in recounts if f["state"] == RecountState.CHANGED],
        "not_counted": [f for f in recounts if f["state"] in _OPEN],
        "other_limits": list(_other_limits(workspace)),
        "lacking": {str(path): seqs for path, seqs in lacking.items()},
        "checkpoint": str(state_dir / CHECKPOINT_FILE),
        "checkpoint_forged": is_forged(state_dir, workspace.ledger.open(), entries),
    }


_OPEN: Final = RecountState.FORGOTTEN, RecountState.UNCHECKED


def _recounts(call: Call, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    for found in recounted(entries, call.state_dir, call.now()):
        yield {**asdict(found), "state": str(found.state)}


def _other_limits(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Yield verdicts of now that were judged by other limits than declared: they do not count."""
    try:
        gates = workspace.project.fleet().gates
    except FleetError:  # broken declarations; nothing is planned from them
        return
    for found in workspace.ledger.history().evidence.values():
        for item in found:
            gate = gates.get(item.gate)
            if gate and not item.answers(soaking(gate) if item.percent == FULL else gate):
                yield {"seq": item.seq, "adapter": item.adapter, "gate": item.gate}


def _signatures(ledger: LedgerContext, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return how many entries are signed and believed, and the others that should be.

    A key is believed in the entries that it may sign: as this machine accepts it, else as the
    ledger does.
    """
    keys, begun = ledger.history().keys, [e for e in entries if _begins_anew(e)]
    signed, refused, bare = 0, [], 0
    for entry in entries:
        if isinstance(entry.event, SIGNED):
            signature = entry.signature
            why = distrust(keys, entry.seq, signature)
            signed += signature is not None and not why
            bare += signature is None and not why
            if why:
                refused.append({"seq": entry.seq, "kind": entry.event.kind, "why": why})
    return {
        "signed": signed,
        "not_signed": bare,
        "not_believed": refused,
        "keys_lost": [
            {"seq": entry.seq, "by": entry.by, "time": str(entry.time)} for entry in begun
        ],
    }


def _begins_anew(entry: Entry) -> bool:
    return isinstance(event := entry.event, KeyAccepted) and event.lost is not None


NEXT: str = f"{KEY_FILE}.next"
"""File of a key that is not in use yet: a command that dies here is repeated."""


def evidence_keys(ledger: LedgerContext) -> dict[str, Any]:
    """Return the document of the key of this machine and of all keys that may sign."""
    keys: Mapping[str, KeyTerm] = {}
    for entry in ledger.open().read():
        keys = keys_after(keys, entry.seq, entry.event, entry.signature)
    own = ledger.signer.own
    return {
        "format": "fleetctl-evidence-keys",
        "format_version": "1.0",
        "own": own or None,
        "is_accepted": own in keys and keys[own].until is None,
        "keys": [
            {"key": key, "since": term.since, "until": term.until} for key, term in keys.items()
        ],
    }


def accept_key(ledger: LedgerContext, key: str) -> None:
    """Let another machine's key sign entries.

    Raises:
        FleetError: FC5145, the key of this machine may not sign.
    """
    _require_accepted(ledger)
    ledger.open().append([KeyAccepted(key)])


def replace_key(workspace: Workspace) -> str:
    """Put a new key in the place of the key of the state folder; return the new public key.

    Raises:
        FleetError: FC5145, the key of this machine may not sign, or is a declared secret.
    """
    if declared := workspace.ledger.signer.declared:
        detail = f"`{declared}` is declared, and fleetctl writes no such secret."
        hint = "Accept the new secret's key here first, then change the secret."
        command = "fleetctl evidence key --accept KEY"
        raise FleetError.of("FC5145", "The key cannot be used", detail, hint=hint, command=command)
    path = workspace.state_dir / NEXT
    secret = read_or_make_secret(path)
    new = public_of(secret)
    if new not in workspace.ledger.history().keys:
        _require_accepted(workspace.ledger)
        workspace.ledger.open().append([KeyAccepted(new, replaces=True)])
    replace_file(workspace.state_dir / KEY_FILE, f"{secret}\n".encode())
    path.unlink()
    return new


def begin_anew(ledger: LedgerContext, reason: str) -> str:
    """Let the key of this machine sign where no earlier key is left; return the public key.

    Raises:
        FleetError: FC5145, the key may sign already.
    """
    if evidence_keys(ledger)["is_accepted"]:
        detail = "The ledger accepts the key of this machine, so that none has to begin anew."
        command = "fleetctl evidence key"
        raise FleetError.of("FC5145", "The key cannot be used", detail, command=command)
    own = ledger.signer.made()
    ledger.open().append([KeyAccepted(own, lost=reason)])
    return own


def _require_accepted(ledger: LedgerContext) -> None:
    keys = evidence_keys(ledger)
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
