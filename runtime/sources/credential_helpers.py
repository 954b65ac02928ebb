"""Asks the credential helpers of docker for logins: `docker-credential-NAME get`.

Source: the protocol of docker-credential-helpers. The helper is a program of the operator, named in
the operator's own configuration, and inherits the environment, as from docker.
"""

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from fleet.errors import LibraryError
from runtime.sources.remote import refused

_LIMIT_S: Final = 60.0
"""Upper bound of the time of a helper, which may ask its own server or a person. Seconds."""
_NOT_FOUND: Final = "credentials not found"
_IDENTITY: Final = "<token>"
"""The name that comes with an identity token in the place of a password."""


def helper_of(registry: str, config: Mapping[str, Any]) -> str:
    """Return the name of the helper that docker's configuration has for a registry; empty: none."""
    own = config.get("credHelpers")
    name = own.get(registry) if isinstance(own, dict) else None
    name = name or config.get("credsStore")
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) else ""


def login_by(helper: str, registry: str) -> str:
    """Return `NAME:PASSWORD` in base64 from a helper; empty: the helper has none.

    Raises:
        LibraryError: FC3052, the helper cannot be run, fails, or gives no password.
    """
    program = f"docker-credential-{helper}"
    for name in (registry, f"https://{registry}", f"https://{registry}/v1/"):
        answer = _answer(program, name)
        if answer is None:
            continue
        match answer:
            case {"Username": str(user), "Secret": str(secret)} if user != _IDENTITY:
                return base64.b64encode(f"{user}:{secret}".encode()).decode()
            case {"Username": str()}:
                why = f"{program} gives an identity token, which fleetctl cannot use"
            case _:
                why = f"{program} answered something else than a login"
        raise _failed(registry, why)
    return ""


def _answer(program: str, name: str) -> Any:
    """Return the answer of a helper for a name; None: it has no login. No output is ever shown."""
    try:
        done = subprocess.run(
            [program, "get"], input=name, capture_output=True, text=True, check=False,
            timeout=_LIMIT_S,
        )  # fmt: skip
        if done.returncode == 0:
            return json.loads(done.stdout)
    except FileNotFoundError:
        raise _failed(
            name, f"{program}, which docker's configuration names, is not there"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(name, f"{program} cannot be asked ({type(error).__name__})") from None
    except ValueError:
        raise _failed(name, f"{program} answered something else than a login") from None
    if _NOT_FOUND in done.stdout.lower():
        return None
    raise _failed(name, f"{program} failed with exit code {done.returncode}")


def _failed(place: str, why: str) -> LibraryError:
    return refused(place, why, "See whether `docker pull` from there works, or log in again.")
