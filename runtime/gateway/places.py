"""Where a gateway keeps its things, and which gateways a state folder knows.

routes.json              the routing table, for all gateways of this machine
routes.previous.json     the one before it
gateways/<name>/         gateway.json, admin.sock, run.lock, usage.jsonl, unsettled/, log
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fleet.errors import EngineError, problem
from fleet.names import is_id
from fleet.spec import GatewaySpec

DEFAULT = GatewaySpec(name="main", listen="127.0.0.1:8080", admin="")
"""The gateway of a state folder that knows of no other."""

LONGEST_SOCKET = 103
"""Bytes in a Unix socket's path: 107 on Linux, 103 on macOS."""
_SHORT = Path("/tmp")  # noqa: S108 (the folder in it is ours alone, checked below)
_PRIVATE = 0o700


def folder(state_dir: Path, name: str) -> Path:
    """Return the folder of one gateway."""
    return state_dir / "gateways" / name


def is_url(admin: str) -> bool:
    """Say whether an admin side is reached over TCP rather than a socket file."""
    return admin.startswith(("http://", "https://"))


def socket_path(state_dir: Path, gateway: GatewaySpec) -> Path:
    """Return the path of a gateway's admin socket.

    A declared path that is relative counts from the project, the folder above `state_dir`.
    One that is too long for the kernel becomes a short one, the same for every caller,
    under a folder of this user's in `/tmp`.
    """
    state = state_dir.resolve()
    default = folder(state, gateway.name) / "admin.sock"
    return fitting(state.parent / gateway.admin if gateway.admin else default)


def fitting(path: Path) -> Path:
    """Return the path of a socket; where it is too long for the kernel, a short one for it."""
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    short = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return _SHORT / f"fleetctl-{os.getuid()}" / f"{short}.sock"


def prepare_socket_folder(path: Path) -> None:
    """Make the folder of an admin socket and see that nobody else can use it.

    Raises:
        EngineError: as `check_socket_folder`.
    """
    path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    check_socket_folder(path)


def check_socket_folder(path: Path) -> None:
    """See that nobody else answers on an admin socket; one that is not there is no trouble.

    Raises:
        EngineError: in a shared folder, somebody else's folder has that name.
    """
    if path.parent.parent != _SHORT or not os.path.lexists(path.parent):
        return
    found = path.parent.lstat()
    if path.parent.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EngineError(
            problem(
                "FC6001",
                "The folder of the admin socket is not private",
                f"`{path.parent}` must be a folder of yours with mode 0700: whoever opens the "
                "socket decides where clients' requests go.",
                hint="Remove it, or declare a short `admin` path on the gateway.",
            )
        )


def remember(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> None:
    """Keep what is declared about gateways, so that a rollback needs no declarations."""
    for name, gateway in gateways.items():
        place = folder(state_dir, name)
        text = json.dumps(asdict(gateway), indent=2, sort_keys=True) + "\n"
        path = place / "gateway.json"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        place.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        scratch = place / f".gateway.json.{os.getpid()}"
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)


def known(state_dir: Path) -> dict[str, GatewaySpec]:
    """Return the gateways that were remembered, by name; `main` alone if there is none."""
    found = {}
    for path in sorted((state_dir / "gateways").glob("*/gateway.json")):
        try:
            gateway = GatewaySpec(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if is_id(gateway.name) and gateway.name == path.parent.name:
            found[gateway.name] = gateway
    return found or {DEFAULT.name: DEFAULT}
