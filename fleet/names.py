"""Names and addresses: how everything in a fleet is called, everywhere, and read back.

An id (client, task, base, tier, host, key) is lower case, begins with a letter and may
hold digits and single underscores inside. It holds no hyphen, so that a joined name such
as `acme-support-llama3_8b-v2.1.0` reads back in exactly one way.

on_server.
"""

import re
from dataclasses import dataclass
from typing import NewType, Self

Address = NewType("Address", str)
"""Where a resource is named: `server/…`, `adapter/…@…`, `route/…`, `key/…/…`."""

ID_PATTERN = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
VERSION_PATTERN = r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
_ID = re.compile(ID_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)
_ADAPTER = re.compile(rf"({ID_PATTERN})-({ID_PATTERN})-({ID_PATTERN})-v({VERSION_PATTERN})")
_DNS_ADAPTER = re.compile(r"(.+)-v([0-9]+)-([0-9]+)-([0-9]+)")


def is_id(text: str) -> bool:
    """Say whether `text` may name a client, task, base, tier, host, device or key."""
    return _ID.fullmatch(text) is not None


def by_number(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return what sorts names as people count: `gpu2` before `gpu10`; of equal numbers by text."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(each) if at % 2 else each for at, each in enumerate(parts)), name


def suggest_id(text: str) -> str:
    """Return the valid id nearest to `text`, for error messages; may be empty."""
    joined = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return re.sub(r"^[0-9_]+", "", joined)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version of three numbers, compared by value (1.10.0 is above 1.9.0)."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2.1.0`.

        Raises:
            ValueError: `text` is not three dot-separated numbers without leading zeros.
        """
        if _VERSION.fullmatch(text) is None:
            raise ValueError(f"not a version of the form 1.2.3: {text!r}")
        major, minor, patch = (int(part) for part in text.split("."))
        return cls(major, minor, patch)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """The full name of one immutable adapter version; also its served model name."""

    client: str
    task: str
    base: str
    version: Version

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `acme-support-llama3_8b-v2.1.0`.

        Raises:
            ValueError: `text` is not `{client}-{task}-{base}-v{major}.{minor}.{patch}`.
        """
        match = _ADAPTER.fullmatch(text)
        if match is None:
            raise ValueError(f"not of the form client-task-base-v1.2.3: {text!r}")
        client, task, base, version = match.groups()
        return cls(client, task, base, Version.parse(version))

    @property
    def alias(self) -> str:
        """The name a client calls: `acme-support`."""
        return f"{self.client}-{self.task}"

    @property
    def dns(self) -> str:
        """The same name as a DNS label, for systems that forbid dots and underscores.

        Reversible by `from_dns`: ids hold no hyphens, no double and no outer underscores.
        """
        return str(self).replace(".", "-").replace("_", "--")

    @classmethod
    def from_dns(cls, label: str) -> Self:
        """Read back what `dns` wrote.

        Raises:
            ValueError: `label` was not made by `dns`.
        """
        match = _DNS_ADAPTER.fullmatch(label)
        if match is None:
            raise ValueError(f"not an adapter's DNS label: {label!r}")
        stem, *numbers = match.groups()
        return cls.parse(f"{stem.replace('--', '_')}-v{'.'.join(numbers)}")

    def __str__(self) -> str:
        return f"{self.client}-{self.task}-{self.base}-v{self.version}"


def server_address(server: str) -> Address:
    """Return `server/<name>`."""
    return Address(f"server/{server}")


def adapter_address(adapter: str, server: str) -> Address:
    """Return `adapter/<full adapter name>@<server>`."""
    return Address(f"adapter/{adapter}@{server}")


def route_address(alias: str) -> Address:
    """Return `route/<client>-<task>`."""
    return Address(f"route/{alias}")


def key_address(client: str, key: str) -> Address:
    """Return `key/<client>/<key>`."""
    return Address(f"key/{client}/{key}")


def server_of_address(address: Address) -> str:
    """Return the server that an adapter's address names; empty for other addresses."""
    kind, _, rest = address.partition("/")
    return rest.rpartition("@")[2] if kind == "adapter" else ""
