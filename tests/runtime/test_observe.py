"""One state out of what many engines and the gateways say."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from fleet.errors import EngineError, EngineUnreachableError, FleetError, problem
from fleet.names import Address
from fleet.resources import Fault, Key, Resource, Route, Server, Share, State
from runtime.engines.observation import merge
from runtime.gateway.admin.protocol import Note, address_unknown, not_running
from runtime.gateway.control.client import ObservedGateways
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import AliasEntry, KeyEntry, RoutingTable
from runtime.observe import observe

ROUTE = Route("acme-support", (Share("acme-support-tiny-v1.0.0", 100, ("s",)),), "salt")
TABLE = RoutingTable(
    revision=3,
    aliases={"acme-support": AliasEntry.of(ROUTE)},
    keys={"acme/prod": KeyEntry(client="acme", name="prod", reference="env:K", sha256="00" * 32)},
)


class Engine:
    """An engine whose state is given."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def observe(self, only: str = "") -> State:  # noqa: ARG002 (it is given)
        return self.state

    async def close(self) -> None:
        return None


class Gateways(LocalGateways):
    """Gateways whose answers are given."""

    def __init__(self, error: EngineError | None = None) -> None:
        self.error = error
        self.notes: tuple[Note, ...] = (Note("lags behind", "main"),)

    async def observe(self) -> ObservedGateways:
        faults = {"west": Fault("is not running", "fleetctl gateway start west")}
        missing = (("acme-support-tiny-v1.0.0", "s"),)
        return ObservedGateways(self.error or TABLE, self.notes, faults, missing)


def server(name: str, host: str) -> Server:
    return Server(name, "tiny", host, ("cpu0",), 8000, "0" * 12)


def state(name: str, host: str) -> State:
    found: dict[Address, Resource] = {server(name, host).address: server(name, host)}
    return State(
        resources=found,
        unknown_servers={f"{name}_2": "down"},
        boots={name: "1"},
        urls={name: "http://x"},
        versions={name: "0.32.0"},
        notes=(f"note of {host}",),
    )


def test_engines_and_gateways_make_one_sorted_state() -> None:
    engines = {"b": Engine(state("z", "b")), "a": Engine(state("y", "a"))}
    seen = asyncio.run(observe(engines, Gateways()))
    assert list(seen.resources) == ["key/acme/prod", "route/acme-support", "server/y", "server/z"]
    assert seen.routes() == {"acme-support": ROUTE}
    assert seen.lost == ("adapter/acme-support-tiny-v1.0.0@s",)
    assert list(seen.keys().values()) == [
        Key(
            "acme",
            "prod",
            "env:K",
            KeyEntry(client="acme", name="prod", reference="env:K", sha256="00" * 32).fingerprint,
        )
    ]
    assert list(seen.unknown_servers) == ["y_2", "z_2"]
    assert list(seen.boots) == list(seen.urls) == list(seen.versions) == ["y", "z"]
    assert seen.notes == ("gateway main lags behind", "note of b", "note of a")
    assert seen.routes_unknown == ""
    assert seen.behind


@pytest.mark.parametrize(
    ("note", "shown", "behind"),
    [
        (not_running("west"), False, False),  # which its fault says already
        (Note("does not answer: why", "west", answers=False), False, False),
        (Note("lags behind", "west"), True, True),
        (not_running("western"), True, False),
        (Note("does not answer: why", "western", answers=False), True, True),
        (address_unknown("s"), True, True),
    ],
)
def test_what_a_fault_says_is_not_said_again(note: Note, shown: bool, behind: bool) -> None:  # noqa: FBT001
    gateways = Gateways()
    gateways.notes = (note,)
    seen = asyncio.run(observe({}, gateways))
    assert (seen.notes, seen.behind) == ((str(note),) if shown else (), behind)


def test_gateways_that_cannot_be_read_leave_routes_and_keys_unknown() -> None:
    error = EngineUnreachableError(problem("FC4001", "No connection", "the socket is gone"))
    seen = asyncio.run(observe({"a": Engine(state("y", "a"))}, Gateways(error=error)))
    assert seen.routes_unknown == "the socket is gone"
    assert not seen.knows(Address("route/acme-support"))
    assert seen.knows(Address("server/y"))


def test_the_same_server_on_two_hosts_is_an_error() -> None:
    with pytest.raises(FleetError, match="server/y"):
        merge(state("y", "a"), state("y", "b"))


def test_nothing_merges_to_nothing() -> None:
    empty: Mapping[Address, Resource] = MappingProxyType({})
    assert merge() == State(resources=dict(empty))
