"""The operator's secret: opens the admin side over TCP, and calls any alias for evaluation."""

from contextlib import suppress
from pathlib import Path

from fleet.declared import Gateway
from fleet.errors import FleetError, problem
from runtime.secrets import keep, make_key, read_secret

SECRET_FILE = "operator.secret"  # noqa: S105 (where it is kept)


def operator_secret(state_dir: Path, gateway: Gateway) -> str:
    """Return a gateway's secret: the declared one, else the state folder's, made if need be.

    Raises:
        FleetError: it is declared and cannot be read here.
    """
    path = state_dir / SECRET_FILE
    if not gateway.secret:
        if not path.is_file():
            with suppress(FleetError):  # another process has just made it
                keep(make_key(), path)
        return path.read_text(encoding="utf-8").strip()
    found = read_secret(state_dir.resolve().parent, gateway.secret)
    if found is None:
        raise FleetError(
            problem(
                "FC6015",
                "The operator's secret cannot be read",
                f"`{gateway.secret}` of gateway `{gateway.name}` is not readable here. It opens "
                "the gateway's admin side, so that nobody else decides where requests go.",
                hint="Put it there, or delete `secret` from the gateway: one is made then.",
            )
        )
    return found
