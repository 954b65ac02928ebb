"""Reads the facts that the script of a check prints on a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

HostVerdict = Literal["ok", "warning", "fault", "unknown"]
"""`unknown`: the host did not tell; never taken for `ok`."""

_DIGITS: Final = 16
"""Upper bound of the digits of a figure that a host tells."""
_OF_DNF: Final = {
    "iproute2": "iproute", "libnuma1": "numactl-libs", "uidmap": "shadow-utils"
}  # fmt: skip


class HostFinding(NamedTuple):
    """Verdict on a part of a host."""

    subject: str
    """Part of the host, such as `linger`."""
    verdict: HostVerdict
    text: str
    command: str = ""
    """Command that helps; empty: none is needed, or none is known."""

    @property
    def is_here(self) -> bool:
        """Whether fleetctl is the program, run here; else the command is for the host."""
        return self.command.startswith("fleetctl ")


class Listener(NamedTuple):
    """A TCP socket that takes connections on the host."""

    address: str
    port: int
    unit: str
    """Unit of fleetctl that has the socket; empty: another program has it."""


class Card(NamedTuple):
    """A card, as shown by the driver."""

    name: str
    memory_mib: int | None
    """None: the driver does not tell."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts that a host told, and facts about the host that this machine saw."""

    values: Mapping[str, str]
    """Lines `key=value` of the script; a key that is missing or empty is unknown."""
    listeners: tuple[Listener, ...] = ()
    cards: Mapping[int, Card] = field(default_factory=dict)
    """Cards by their index."""
    clock_s: tuple[float, float] | None = None
    """Seconds by which the host's clock is ahead of this machine's, and the error of the figure."""
    outside: Mapping[int, bool] | None = None
    """Whether a port of the host answers this machine without SSH; None: not to be tried."""

    def told(self, key: str) -> str:
        """Return a value; empty: unknown."""
        return self.values.get(key, "")

    def number(self, key: str) -> int | None:
        """Return a value that is a whole number; None: unknown."""
        return _whole(self.told(key))


def parse_facts(printed: str) -> HostFacts:
    """Return the facts in the output of the script; lines of other forms are left out."""
    values, listeners, cards = dict[str, str](), list[Listener](), dict[int, Card]()
    for line in printed.splitlines():
        key, _, value = line.partition("=")
        match key, value.split(", "):
            case "listen", [text]:
                local, _, unit = text.partition(" ")
                address, _, port = local.rpartition(":")
                listeners.append(Listener(address.strip("[]"), _whole(port) or 0, unit))
            case "gpu", [index, name, memory, driver]:
                cards[_whole(index) or 0] = Card(name, _whole(memory.removesuffix(" MiB")))
                values["driver"] = driver
            case _:
                values[key] = value.strip()
    return HostFacts(values, tuple(listeners), cards)


def unknown(subject: str, command: str = "") -> HostFinding:
    """Return the finding about a part that the host does not tell."""
    return HostFinding(subject, "unknown", "The host does not tell.", command)


def install_command(facts: HostFacts, package: str) -> str:
    """Return the command that installs a package, named as on Debian."""
    if facts.told("packages") == "dnf":
        return f"sudo dnf install {_OF_DNF.get(package, package)}"
    return f"sudo apt-get install {package}"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else None
