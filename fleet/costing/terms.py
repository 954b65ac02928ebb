"""Defines the terms of costs at a time: devices, servers and clients with all that a bill needs.

The ledger keeps terms as documents by key, so that an entry holds the changed documents alone.
Amounts are millionths of the currency, work is decode-equivalent tokens.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Any, Final

from fleet.codec import MalformedError, decode, plain
from fleet.errors import FleetError
from fleet.names import client_of
from fleet.placement import AdapterAccount, ServerAccount, state_accounts
from fleet.policies import MICRO, IdleRule, micro
from fleet.resources import FULL, Route, Server, State
from fleet.spec import FleetSpec

SECONDS: Final = 3600
FLEET: Final = "fleet"
"""Key of the fleet's own; others are `device/HOST/DEVICE`, `server/NAME`, `client/NAME`."""


class Role(StrEnum):
    """The part of a version in its alias's traffic."""

    STABLE = "stable"
    CANARY = "canary"
    RETAINED = "retained"


@dataclass(frozen=True, slots=True)
class FleetTerms:
    """The fleet's own terms."""

    currency: str
    timezone: str
    idle: IdleRule
    storage: int
    """Price of a GiB a month."""


@dataclass(frozen=True, slots=True)
class DeviceTerms:
    """The lease of a device, or of an attached server."""

    price: int
    """Price of an hour."""
    always: bool
    """Whether an hour without a server costs too."""


@dataclass(frozen=True, slots=True)
class ResidentTerms:
    """A version on a server."""

    adapter: str
    role: Role
    slots: int
    """1; 0: the version waits in host memory for a slot."""
    percent: int
    """Its share of the alias's traffic."""
    load: tuple[int, ...]
    """Declared load of the alias here by hour of the day, UTC: tokens in the hour."""


@dataclass(frozen=True, slots=True)
class ServerTerms:
    """A server: its devices, what an hour of it can do, and its versions."""

    devices: tuple[str, ...]
    """Keys of its devices, without `device/`."""
    base: str
    slots: int
    prompt_weight: int
    """Millionths of a decoded token that a prompt token counts."""
    capacity: tuple[int, ...]
    """Work that an hour can do by hour of the day, UTC; empty: not known."""
    calibrated: bool
    """Whether capacity and weight were measured."""
    residents: tuple[ResidentTerms, ...]


@dataclass(frozen=True, slots=True)
class ClientTerms:
    """A client."""

    fee: int | None
    """Fee a month; None: no fee is declared."""
    staff: int
    """Price of the declared staff hours a month."""
    staff_rate: int
    """Price of an hour of work."""
    storage_bytes: int
    """Size of its adapter versions in the library."""
    included: int
    """Tokens a month that the fee covers."""
    overage: int
    """Price of a million further tokens; 0: none."""
    bill_evals: bool
    promises: Mapping[str, int] = field(default_factory=dict)
    """Promised p95 of an answer by alias, in milliseconds; no promise: not here."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All terms at a time."""

    fleet: FleetTerms
    devices: Mapping[str, DeviceTerms] = field(default_factory=dict)
    """By `HOST/DEVICE`, or `HOST/SERVER` of an attached server; sorted."""
    servers: Mapping[str, ServerTerms] = field(default_factory=dict)
    clients: Mapping[str, ClientTerms] = field(default_factory=dict)

    @property
    def is_priced(self) -> bool:
        """Whether anything costs."""
        clients = self.clients.values()
        return bool(
            self.fleet.storage
            or any(device.price for device in self.devices.values())
            or any(client.staff for client in clients)
        )

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return the terms as documents by key, sorted."""
        plain_documents = {FLEET: plain(self.fleet)}
        for kind, _ in _SECTIONS:
            section: Mapping[str, Any] = getattr(self, f"{kind}s")
            plain_documents |= {f"{kind}/{name}": plain(item) for name, item in section.items()}
        return dict(sorted(plain_documents.items()))

    @classmethod
    def of_documents(cls, documents: Mapping[str, Mapping[str, Any]]) -> "Terms":
        """Return the terms of documents; documents of kinds of a later release are left out.

        Raises:
            FleetError: FC6089, a document is none of ours.
        """
        try:
            return cls._decoded(documents)
        except (MalformedError, KeyError) as error:
            raise FleetError.of(
                "FC6089",
                "Recorded terms of costs cannot be read",
                f"An entry `cost_terms` of the ledger is of a later release, or no entry of "
                f"fleetctl: {error}.",
                hint="Run the release of fleetctl that wrote it, or a later one.",
            ) from None

    @classmethod
    def _decoded(cls, documents: Mapping[str, Mapping[str, Any]]) -> "Terms":
        fleet = decode(FleetTerms, documents[FLEET], FLEET, lenient=True)
        sections: dict[str, dict[str, Any]] = {kind: {} for kind, _ in _SECTIONS}
        targets = dict(_SECTIONS)
        for key, document in sorted(documents.items()):
            kind, _, name = key.partition("/")
            if kind in targets:
                sections[kind][name] = decode(targets[kind], document, key, lenient=True)
        return cls(fleet, *(sections[kind] for kind, _ in _SECTIONS))


_SECTIONS: Final[tuple[tuple[str, type], ...]] = (
    ("device", DeviceTerms),
    ("server", ServerTerms),
    ("client", ClientTerms),
)


def terms_of(fleet: FleetSpec, state: State) -> Terms:
    """Return the terms of a fleet whose servers, adapters and routes are those of a state.

    Attached servers are there while they are declared.

    Capacity and weights are those by which placement accounts.
    """
    policy = fleet.costs
    attached = {
        server.name: Server(server.name, server.base, host.name, (), 0, None)
        for host in fleet.hosts.values()
        for server in host.attached
    }
    missing = {server.address: server for server in attached.values()}
    accounts = state_accounts(fleet, replace(state, resources={**missing, **state.resources}))
    roles = _roles(state)
    return Terms(
        FleetTerms(policy.currency, policy.timezone, policy.idle, micro(policy.storage_price)),
        dict(sorted(_devices(fleet))),
        {
            name: _server(account, account.server in attached, roles)
            for name, account in accounts.items()
        },
        dict(_clients(fleet)),
    )


def _devices(fleet: FleetSpec) -> Iterator[tuple[str, DeviceTerms]]:
    for host in fleet.hosts.values():
        prices = {device.name: device.price_per_hour for device in host.devices}
        prices |= {server.name: server.price_per_hour for server in host.attached}
        for name, price in prices.items():
            yield f"{host.name}/{name}", DeviceTerms(micro(price), host.billing == "always")


def _clients(fleet: FleetSpec) -> Iterator[tuple[str, ClientTerms]]:
    sizes: dict[str, int] = defaultdict(int)
    for name, facts in fleet.versions.items():
        sizes[client_of(name)] += facts.bytes
    promises: dict[str, dict[str, int]] = defaultdict(dict)
    for alias, adapter in sorted(fleet.adapters.items()):
        if adapter.promised:
            promises[client_of(alias)][alias] = round(1000 * adapter.slo_s)
    for name, client in fleet.clients.items():
        costs = client.costs
        yield (
            name,
            ClientTerms(
                None if client.monthly_fee is None else micro(client.monthly_fee),
                micro(costs.staff_hours * costs.staff_rate),
                micro(costs.staff_rate),
                sizes[name],
                costs.included_tokens,
                micro(costs.overage_price),
                client.bill_evals,
                promises[name],
            ),
        )


def _server(
    account: ServerAccount,
    is_attached: bool,  # noqa: FBT001 (a fact of the account's server)
    roles: Mapping[str, tuple[Role, int]],
) -> ServerTerms:
    names = (account.server,) if is_attached else account.devices
    bounded = all(map(isfinite, account.limit)) and account.allowed > 0
    hours = [round(limit / account.allowed * SECONDS) for limit in account.limit] if bounded else []
    return ServerTerms(
        tuple(f"{account.host}/{name}" for name in names),
        account.base,
        account.slots,
        round(account.prompt_weight * MICRO),
        tuple(hours),
        account.basis.is_measured,
        tuple(_resident(item, roles) for item in account.residents),
    )


def _resident(account: AdapterAccount, roles: Mapping[str, tuple[Role, int]]) -> ResidentTerms:
    role, percent = roles.get(account.adapter, (Role.RETAINED, 0))
    load = tuple(round(tokens * SECONDS) for tokens in account.load.tokens)
    return ResidentTerms(account.adapter, role, int(not account.cached), percent, load)


def _roles(state: State) -> dict[str, tuple[Role, int]]:
    """Return role and share by version: the newest version below 100 % is the canary."""
    roles: dict[str, tuple[Role, int]] = {}
    for route in state.routes().values():
        for place, share in enumerate(route.shares):
            roles[share.adapter] = _role(route, place), share.percent
        if route.shadow:
            roles.setdefault(route.shadow, (Role.CANARY, 0))
    return roles


def _role(route: Route, place: int) -> Role:
    share = route.shares[place]
    if place == 0:
        return Role.STABLE if share.percent == FULL or len(route.shares) == 1 else Role.CANARY
    return Role.STABLE if share.percent else Role.RETAINED
