"""Files of gateways in a fleet's state folder.

routes.json              the routing table, for all gateways of this machine
routes.previous.json     the table before it
operator.secret          opens admin sides over TCP, and calls any alias for evaluation
gateways/<name>/         gateway.json, run.lock, usage.jsonl, log; elsewhere: fleet-id

The socket of the admin side, and the lock a second time, lie outside, in `run_dir`: a state folder
that is lost takes neither along, and the gateway that goes on serving is found.

The table's file holds the table's digest and then its canonical document. The file before it is
kept: a gateway starts from that one where the newest is torn or was changed by hand.
"""

import hashlib
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fleet.codec import decode_json
from fleet.errors import FleetError, LockHeldError, NewerFormatError, StalePlanError, did_you_mean
from fleet.hardware import ServerTls
from fleet.names import is_id
from fleet.spec import GatewaySpec
from runtime.files import is_locked, locked_file, make_private, read_plain, replace_file
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import require_format
from runtime.processes import described_holder, lock_holder
from runtime.secrets import read_or_make_secret, read_secret, secret_unreadable
from runtime.server_tls import ServerKeys, TlsToServer
from runtime.usage.log import GATEWAYS

DEFAULT_GATEWAY: Final = GatewaySpec(name="main", listen="127.0.0.1:8080", admin="")
"""The gateway of a state folder that knows no other."""
LOCK: Final = "run.lock"
"""File that a gateway's process keeps locked, with its record, in both its folders."""
TABLE_FILE: Final = "routes.json"
PREVIOUS_FILE: Final = "routes.previous.json"
SECRET_FILE: Final = "operator.secret"  # noqa: S105 (a file name)
RUN_DIR_VARIABLE: Final = "FLEETCTL_RUN_DIR"
"""Environment variable with the folder in place of `~/.local/state/fleetctl`."""
FLEET_FILE: Final = "fleet-id"
"""File of a gateway with a URL as `admin`: id of the fleet that it serves."""
_LOCK_FILE: Final = "routes.lock"
LOCK_S: Final = 15.0
"""Upper bound of the wait for the lock of the table's file, which is usually held for milliseconds.
Seconds."""
URGENT_LOCK_S: Final = 1.0
"""The same for a rollback, which gateways serve without the file. Seconds."""
_GATEWAY_FILE: Final = "gateway.json"
_DIGEST_KEY: Final = b'{"digest":"'
_DIGEST_LENGTH: Final = 64


class TableLockedError(FleetError, OSError):
    """Another process keeps the lock of the routing table's file, so the file cannot be written."""


def gateway_dir(state_dir: Path, name: str) -> Path:
    """Return the folder of a gateway."""
    return state_dir / GATEWAYS / name


def run_dir(state_dir: Path, name: str) -> Path:
    """Return the folder of a gateway's admin socket and second lock, in the user's own home.

    Named by a hash of machine and state folder, since a home may be shared by machines. The home is
    that of the user database, so that cron, sudo and a shell find the same folder; nothing sweeps
    it, as `/tmp` and `/run/user` are swept.
    """
    given = os.environ.get(RUN_DIR_VARIABLE)
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # the user database lacks the user
        home = Path.home()
    root = Path(given) if given else home / ".local" / "state" / "fleetctl"
    place = f"{socket.gethostname()}:{state_dir.resolve()}"
    return root / hashlib.sha256(os.fsencode(place)).hexdigest()[:16] / name


def operator_secret(state_dir: Path, gateway: GatewaySpec) -> str:
    """Return a gateway's secret, declared or else made in the state folder, or raise FC6015."""
    secret = (
        read_secret(state_dir.resolve().parent, gateway.secret)
        if gateway.secret
        else read_or_make_secret(state_dir / SECRET_FILE)
    )
    if not secret:  # an empty secret would open the admin side to every caller
        raise FleetError.of(
            "FC6015",
            "The operator's secret cannot be read",
            f"`{gateway.secret or state_dir / SECRET_FILE}` of gateway `{gateway.name}` is "
            "empty or not readable here. It opens the gateway's admin side, so that only "
            "the operator decides where requests go.",
            hint="Put it there, or delete it and the gateway's `secret`: one is made then.",
        )
    return secret


def keys_of_servers(state_dir: Path, gateway: GatewaySpec) -> ServerKeys:
    """Return the keys that a gateway shows to servers.

    Raises:
        EngineError: FC4025, a declared secret cannot be read here.
    """
    root, attached = state_dir.resolve().parent, dict[str, tuple[str, str]]()
    for server, reference in gateway.server_keys:
        if (key := read_secret(root, reference)) is None:
            raise secret_unreadable(reference, server)
        attached[server] = reference, key
    secret = read_secret(root, gateway.servers_secret) if gateway.servers_secret else ""
    if secret is None:
        raise secret_unreadable()
    tls = {server: TlsToServer(files, root) for server, files in gateway.server_tls}
    return ServerKeys(secret, attached, tls)


def spec_document(gateway: GatewaySpec) -> dict[str, Any]:
    """Return a declaration as JSON; earlier releases read all without the newer fields."""
    newer = {"servers_secret", "certificate", "ssh", "server_keys", "server_tls", "usage_log"}
    return {name: text for name, text in asdict(gateway).items() if text or name not in newer}


def remember(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> None:
    """Save the declarations of gateways, so that a rollback needs no declarations."""
    for name, gateway in gateways.items():
        path = gateway_dir(state_dir, name) / _GATEWAY_FILE
        text = json.dumps(spec_document(gateway), indent=2, sort_keys=True) + "\n"
        if path.is_file() and read_plain(path) == text.encode():
            continue
        make_private(path.parent)
        replace_file(path, text.encode())


def known_gateways(state_dir: Path) -> dict[str, GatewaySpec]:
    """Return the gateways that were remembered, by name; `main` alone if there is none.

    Where the state folder was lost, those that run are remembered by their second locks.
    """
    gateways: dict[str, GatewaySpec] = {}
    for path in sorted((state_dir / GATEWAYS).glob(f"*/{_GATEWAY_FILE}")):
        with suppress(OSError, ValueError, TypeError):
            _add(gateways, path, decode_json(read_plain(path)))
    if not gateways:
        for path in sorted(run_dir(state_dir, "*").parent.glob(f"*/{LOCK}")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                if is_locked(path):
                    _add(gateways, path, decode_json(read_plain(path))["declared"])
    return gateways or {DEFAULT_GATEWAY.name: DEFAULT_GATEWAY}


def named_gateway(known: Mapping[str, GatewaySpec], name: str) -> GatewaySpec:
    """Return the gateway of a name.

    Raises:
        FleetError: FC6010, there is none.
    """
    if name in known:
        return known[name]
    detail = f"`{name}` is not declared. There are: {', '.join(sorted(known))}."
    hint = did_you_mean(name, sorted(known))
    raise FleetError.of("FC6010", "No such gateway", detail, hint=hint)


def _add(gateways: dict[str, GatewaySpec], path: Path, document: Any) -> None:
    pairs = document.get("server_keys", ()) if isinstance(document, dict) else ()
    keys = tuple((str(server), str(reference)) for server, reference in pairs)
    tls = tls_of(document) if isinstance(document, dict) else ()
    gateway = GatewaySpec(**{**document, "server_keys": keys, "server_tls": tls})
    if is_id(gateway.name) and gateway.name == path.parent.name:
        gateways[gateway.name] = gateway


def tls_of(document: Mapping[str, Any]) -> tuple[tuple[str, ServerTls], ...]:
    """Return the `server_tls` of a declaration in JSON."""
    pairs = document.get("server_tls", ())
    return tuple((str(server), ServerTls(**files)) for server, files in pairs)


def read_table(state_dir: Path, file: str = TABLE_FILE) -> RoutingTable | None:
    """Return the table in `TABLE_FILE` or `PREVIOUS_FILE`, or None if there is no file.

    Raises:
        FleetError: FC6002, the file is not a routing table, or not the one that was written.
        NewerFormatError: FC5007, the file has the format of a later release.
    """
    path = state_dir / file
    try:
        raw = read_plain(path)
    except FileNotFoundError:
        return None
    require_format(raw, str(path))
    if raw.startswith(_DIGEST_KEY):  # files of the first versions have no digest
        digest, _, rest = raw.removeprefix(_DIGEST_KEY).partition(b'",')
        raw = b"{" + rest.removesuffix(b"\n")
        if len(digest) != _DIGEST_LENGTH or hashlib.sha256(raw).hexdigest().encode() != digest:
            raise _damaged(f"`{path}` is torn or was changed by hand: its digest does not fit.")
    try:
        return RoutingTable.model_validate_json(raw)
    except ValidationError as error:
        raise _damaged(
            f"`{path}` is not a routing table: {error.errors(include_input=False)[0]['msg']}."
        ) from None


def write_table(state_dir: Path, table: RoutingTable, *, urgent: bool = False) -> None:
    """Replace the table in the file by a newer table; to write the same table again is fine.

    A damaged file is renamed: what is written came from a running gateway then. `urgent`: another
    process that holds the file's lock is not waited for long.

    Raises:
        StalePlanError: another run has written this revision or a later one.
        LockHeldError: the table in the file was written under a newer lease.
        NewerFormatError: FC5007, the table in the file has a later format, and stays.
        TableLockedError: FC5170, another process keeps the file's lock.
    """
    make_private(state_dir)
    with _locked_table(state_dir / _LOCK_FILE, URGENT_LOCK_S if urgent else LOCK_S):
        before = _read_or_rename_damaged(state_dir)
        if before is not None:
            if before.digest == table.digest:
                return
            _require_successor(before, table)
            _keep_previous(state_dir)
        body = table.canonical().encode()
        digest = hashlib.sha256(body).hexdigest().encode()
        replace_file(state_dir / TABLE_FILE, b'%b%b",%b\n' % (_DIGEST_KEY, digest, body[1:]))


@contextmanager
def _locked_table(path: Path, wait_s: float) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(path, timeout_s=wait_s))
        except BlockingIOError:
            holder = lock_holder(path)
            by, hint, command = described_holder(holder) if holder is not None else ("", "", "")
            raise TableLockedError.of(
                "FC5170",
                "The routing table's file is locked",
                f"`{path}` has been locked for {wait_s:g} s{by}. The file stays as it is.",
                hint=f"{hint} A rollback works meanwhile.".strip(),
                command=command,
            ) from None
        yield


def _damaged(detail: str) -> FleetError:
    return FleetError.of(
        "FC6002",
        "The routing table's file is damaged",
        detail,
        hint="With a gateway running, the next change of routes writes it anew from "
        "there; one that starts begins with the table before it, if there was one. Without "
        "any, move it away: routes are then made anew.",
    )


def _read_or_rename_damaged(state_dir: Path) -> RoutingTable | None:
    try:
        return read_table(state_dir)
    except NewerFormatError:
        raise
    except FleetError:
        path = state_dir / TABLE_FILE
        path.replace(path.with_suffix(".damaged.json"))
        return None


def _require_successor(before: RoutingTable, table: RoutingTable) -> None:
    if table.token < before.token:
        raise LockHeldError.of(
            "FC6003",
            "A newer run holds the fleet",
            f"Routes were last written under lease {before.token}; this run holds lease "
            f"{table.token}, which has expired.",
            hint="Wait for the other run, then plan again.",
            command="fleetctl plan",
        )
    if table.revision <= before.revision:
        raise StalePlanError.of(
            "FC6004",
            "The routing table has changed meanwhile",
            f"Revision {before.revision} was written by another run; this one wanted to write "
            f"revision {table.revision}.",
            hint="Nothing was changed. Run the command again.",
        )


def _keep_previous(state_dir: Path) -> None:
    """Give the file a second name, where links are possible; on a full disk too."""
    scratch = state_dir / f".{PREVIOUS_FILE}"
    with suppress(OSError):
        scratch.unlink(missing_ok=True)
        scratch.hardlink_to(state_dir / TABLE_FILE)
        scratch.replace(state_dir / PREVIOUS_FILE)
