"""Keep values of the environment out of addresses of hosts that the operator does not trust."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from fleet.codes import diagnostic
from fleet.config import Parsed, from_environment, unmark
from fleet.errors import Diagnostic
from runtime.trust import may_hold

_NAME: Final = re.compile(r"\$\{env:(\w+)\}")
_LONGEST: Final = 80
"""Upper bound of the characters of a quoted address."""


class _Unread(dict[str, str]):
    """Names in the place of values; every name is there."""

    def __contains__(self, name: object) -> bool:
        """Say that there is such a name."""
        return True

    def __missing__(self, name: str) -> str:
        """Return the name in the place of its value."""
        return f"env_{name}"


UNREAD: Final[Mapping[str, str]] = _Unread()
"""The environment of a run that reads none of its values."""


def env_in_addresses(written: Parsed, filled: Parsed, file: str) -> Iterator[Diagnostic]:
    """Yield FC1276 for addresses with values of the environment to hosts that are not trusted.

    A trusted host may be named by a variable. The value of a variable in a path or a query goes to
    a host alone that was confirmed for that variable. No text holds a value, which may be a secret.
    """
    for text, address, mark in from_environment(written, filled):
        if not address.lower().startswith(("http://", "https://")):
            continue
        names = _NAME.findall(text)
        in_path = "${env:" in text.partition("://")[2].partition("/")[2]
        if not may_hold(address, [f"env:{name}" for name in names] if in_path else ()):
            detail = (
                f"`{text[:_LONGEST]}` would send the value of `{names[0]}` to a host that the "
                "operator did not confirm."
            )
            hint = "Write the address itself, or confirm the host for the variable:"
            command = f"fleetctl trust add https://HOST:PORT --secret env:{names[0]}"
            place = unmark(mark, file)
            yield diagnostic("FC1276", detail, place, hint=hint, command=command)
