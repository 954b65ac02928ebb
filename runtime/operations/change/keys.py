"""Create keys of clients; none in the place of a key that clients use, unless that is asked for."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Diagnostic, FleetError, did_you_mean, problem
from fleet.resources import Key
from fleet.spec import ClientKey
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from runtime.operations.change.planning import as_far_as_valid
from runtime.secrets import make_key, write_secret
from runtime.workspace import Call, Workspace


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key, written to its file, or to be set as a variable by its reader."""

    name: str
    """CLIENT/KEY."""
    secret: str
    path: Path | None = None
    """The declared file, which has the key now; None: a variable is declared."""
    variable: str = ""


def create_keys(workspace: Workspace, name: str | None, *, replace: bool) -> Iterator[CreatedKey]:
    """Create the key of a name, or without a name every declared `file:` key that has no file.

    `replace`: also in the place of a key that clients use and whose file is missing.

    Raises:
        FleetError: FC6012, no such key is declared; FC6062, the keys in use cannot be told; when
            the others are created FC6061, clients use keys that have no file.
    """
    workspace, _ = as_far_as_valid(workspace)
    declared = {
        f"{client.name}/{key.name}": key
        for client in workspace.project.fleet().clients.values()
        for key in client.keys
    }
    if name is not None and name not in declared:
        raise _not_declared(name, declared)
    chosen = {name: declared[name]} if name else declared
    missing = {
        full: path
        for full, key in chosen.items()
        for kind, _, path in [key.reference.partition(":")]
        if kind == "file" and not (workspace.root / path).exists()
    }
    used = fingerprints_in_use(workspace) if missing and not replace else {}
    for full in chosen if name else missing:
        if not (full in missing and full in used):
            yield _create(workspace, full, declared[full])
    problems = [
        in_use(workspace, full, path, used[full]) for full, path in missing.items() if full in used
    ]
    if problems:
        raise FleetError(*problems)


def _not_declared(name: str, declared: Iterable[str]) -> FleetError:
    detail = (
        f"`{name}` is not declared. A key is declared with its client: "
        '`keys: {prod: "file:.fleetctl/keys/acme-prod"}`.'
    )
    hint = did_you_mean(name, sorted(declared))
    command = "fleetctl validate"
    return FleetError.of("FC6012", "No such key is declared", detail, hint=hint, command=command)


def _create(call: Call, name: str, declared: ClientKey) -> CreatedKey:
    kind, _, place = declared.reference.partition(":")
    secret = make_key()
    if kind == "env":
        return CreatedKey(name, secret, variable=place)
    path = call.root / place
    write_secret(secret, path)
    return CreatedKey(name, secret, path)


def fingerprints_in_use(workspace: Workspace) -> Mapping[str, str]:
    """Return the fingerprints of keys that gateways take or applies established, by CLIENT/KEY.

    Raises:
        FleetError: FC6062, the routing table or the ledger cannot be read.
    """
    try:
        table = asyncio.run(_newest_table(workspace))
        known = workspace.ledger.last_known().history().established.values()
    except FleetError as error:
        first = error.diagnostics[0]
        detail = f"A new key could lock a client out. {first.summary}: {first.detail}"
        hint = first.hint
        raise FleetError.of(
            "FC6062", "The keys in use cannot be told", detail, hint=hint, command=first.command
        ) from error
    used = {
        f"{key.client}/{key.name}": key.fingerprint or "unknown"
        for key in known
        if isinstance(key, Key)
    }
    return used | {name: entry.fingerprint for name, entry in table.keys.items()}


async def _newest_table(workspace: Workspace) -> RoutingTable:
    state_dir, declared = workspace.state_dir, workspace.project.fleet().gateways
    async with LocalGateways(state_dir, declared, workspace.machines.envoys()) as gateways:
        table, notes = await gateways.read_table()
        silent = [note for note in notes if note.runs and not note.answers]
        if silent and not table.revision:
            detail = f"There is no routing table here, and {silent[0]}"
            command = "fleetctl gateway status"
            raise FleetError.of("FC6062", "The keys in use cannot be told", detail, command=command)
    return table


def in_use(call: Call, name: str, place: str, fingerprint: str) -> Diagnostic:
    """Return the problem that a key of clients has no file here; `place` is the declared path."""
    path = call.root / place
    return problem(
        "FC6061",
        "A key that clients use has no file here",
        f"`{name}` is in use, with fingerprint {fingerprint}, and `{path}` is not there. The "
        "gateways go on taking the key, and a new one would lock out who holds it: nothing is "
        "made.",
        hint="Put the file back from where the client keeps its key; `fleetctl plan` then shows no "
        "change. To replace the key on purpose, which locks the client out at the next apply:",
        command=f"fleetctl key create {name} --replace",
    )
