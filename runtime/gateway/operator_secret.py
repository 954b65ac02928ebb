"""The operator's secret: opens the admin side over TCP, and calls any alias for evaluation."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from fleet.errors import FleetError, problem
from fleet.spec import GatewaySpec
from runtime.secrets import make_key, read_secret, write_secret

SECRET_FILE = "operator.secret"  # noqa: S105 (a file name)


def operator_secret(state_dir: Path, gateway: GatewaySpec) -> str:
    """Return a gateway's secret: the declared one, else the state folder's, made if need be.

    Raises:
        FleetError: FC6015, the secret cannot be read here.
    """
    secret = (
        read_secret(state_dir.resolve().parent, gateway.secret)
        if gateway.secret
        else _read_or_make(state_dir / SECRET_FILE)
    )
    if not secret:  # an empty secret would open everything to everybody
        raise FleetError(
            problem(
                "FC6015",
                "The operator's secret cannot be read",
                f"`{gateway.secret or state_dir / SECRET_FILE}` of gateway `{gateway.name}` is "
                "empty or not readable here. It opens the gateway's admin side, so that nobody "
                "else decides where requests go.",
                hint="Put it there, or delete it and the gateway's `secret`: one is made then.",
            )
        )
    return secret


def _read_or_make(path: Path) -> str:
    """Return the secret in a file; the file is made, whole or not at all, where there is none."""
    if not path.is_file():
        scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        write_secret(make_key(), scratch)
        with suppress(FileExistsError):  # another process has just made it
            path.hardlink_to(scratch)
        scratch.unlink()
    return path.read_text(encoding="utf-8").strip()
