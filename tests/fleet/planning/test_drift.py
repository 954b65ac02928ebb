"""Drift: one cause for one thing that happened, and what may be done about it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from fleet.history.values import History
from fleet.names import Address, adapter_address
from fleet.planning import (
    DriftAction,
    DriftCause,
    classify_drift,
    outages_of,
    without_ignored,
)
from fleet.planning.modes import advances, repair
from fleet.resources import Fault, Key, OutageKind, Resource, Server, ServerFlags, State
from fleet.steps import LoadAdapter, SetKey, SetRoute, SmokeTest, StartServer
from plans.reports.drift import render_json, render_text
from tests.fleet.planning.builders import digest_of, loaded, route, state

OLD = "acme-support-tiny-v1.0.0"
FAQ = "birch-faq-tiny-v1.0.0"
FLAGS = ServerFlags("models/base/tiny", "tiny", 16, 16, 32)


def server(name: str, host: str = "laptop", flags: ServerFlags | None = FLAGS) -> Server:
    return Server(name, "tiny", host, ("cpu0",), 8100, flags.digest if flags else None, flags)


ROUTE = route("acme-support", (OLD, 100, "a"))
KEY = Key("acme", "prod", "env:KEY", "0123456789ab")
ALL: tuple[Resource, ...] = (
    server("a"), server("b"), loaded(OLD, "a"), loaded(FAQ, "a"), loaded(OLD, "b"), ROUTE, KEY,
)  # fmt: skip


def established(*resources: Resource) -> History:
    found = {each.address: each for each in resources or ALL}
    return History(established=found, owned=frozenset(found), boots={"a": "boot-1", "b": "boot-1"})


def live(*gone: str, more: tuple[Resource, ...] = ()) -> State:
    kept = [each for each in ALL if not any(text in each.address for text in gone)]
    return state(*kept, *more, boots={"a": "boot-1", "b": "boot-1"})


@dataclass(frozen=True)
class Case:
    name: str
    live: State
    subject: str
    remedy: DriftAction
    says: str
    addresses: int = 1


RESOLVABLE = {adapter.address: adapter for adapter in (loaded(OLD, "a"), loaded(FAQ, "a"))}
MOVED = replace(server("a"), port=9999)
CASES = (
    Case("a dead server with its adapters", live("server/a", "@a"), "server/a", DriftAction.HEAL,
         "has ended; 2 adapters are gone with it", 3),
    Case("a restarted server", replace(live("@a"), boots={"a": "boot-2"}), "server/a",
         DriftAction.HEAL, "the server was restarted; 2 adapters are missing", 2),
    Case("a restarted server that has the plug-in",
         replace(live("@a"), boots={"a": "boot-2"}, resolvable=RESOLVABLE), "server/a",
         DriftAction.HEAL,
         "restarted; 2 adapters are answered by the resolver until loaded again", 2),
    Case("a restarted server whose file of adapters lacks one",
         replace(live("@a"), boots={"a": "boot-2"}, resolvable=dict([*RESOLVABLE.items()][:1])),
         "server/a", DriftAction.HEAL,
         "2 adapters are missing, 1 of them answered by the resolver", 2),
    Case("a restarted server whose file of adapters names other bytes",
         replace(live("@a"), boots={"a": "boot-2"}, resolvable={
             address: replace(adapter, digest=digest_of("other"))
             for address, adapter in RESOLVABLE.items()}), "server/a",
         DriftAction.HEAL, "the server was restarted; 2 adapters are missing", 2),
    Case("a server that shows no start time", replace(live("@a"), boots={}), "server/a",
         DriftAction.HEAL, "were unloaded, or the server was restarted and shows no start time", 2),
    Case("a restarted server as another launch", replace(
        live("@a"), launches={"a": "2"}, routed_launches={"a": "1"}, boots={}),
         "server/a", DriftAction.HEAL,
         "the server was restarted; 2 adapters are missing; the routes name launch 1", 2),
    Case("a launch that the routes do not name", replace(
        live(), launches={"a": "2"}, routed_launches={"a": "1"}), "server/a", DriftAction.HEAL,
         "started anew; the routes name launch 1, so that no gateway sends it a request"),
    Case("a server that shows no launch where the routes name one", replace(
        live(), routed_launches={"a": "1"}), "server/a", DriftAction.HEAL,
         "the routes name launch 1"),
    Case("a stale launch", replace(
        live("server/a", "@a"), launches={"a": "2"}, routed_launches={"a": "1"},
        unknown_servers={"a": "launch 2 answers at its address, and fleetctl started 1"}),
         "server/a", DriftAction.ALERT,
         "stale launch: launch 2 answers at its address, and fleetctl started 1; the routes name"),
    Case("an adapter that is listed and not there",
         replace(live(), lost=(adapter_address(OLD, "a"),)), f"adapter/{OLD}@a", DriftAction.ALERT,
         "answers a gateway's requests for it with 404"),
    Case("an adapter that a gateway missed and that is not listed either",
         replace(live(f"{OLD}@a"), lost=(adapter_address(OLD, "a"),)), "server/a", DriftAction.HEAL,
         "or a run ended before it loaded them; 1 adapter is missing"),
    Case("an adapter unloaded by hand", live(f"{OLD}@a"), "server/a", DriftAction.HEAL,
         "or a run ended before it loaded them; 1 adapter is missing"),
    Case("all servers of a host", live("server", "@"), "host/laptop", DriftAction.HEAL,
         "all 2 servers have ended; 3 adapters are gone with them", 5),
    Case("a silent server", replace(live("server/a", "@a"), unknown_servers={"a": "timeout"}),
         "server/a", DriftAction.ALERT, "does not answer: timeout"),
    Case("other flags", live("server/a", more=(MOVED,)), "server/a", DriftAction.PLAN,
         "runs with other flags or elsewhere than established"),
    Case("a rogue adapter", live(more=(loaded("test2", "a"),)), "adapter/test2@a",
         DriftAction.ALERT, "not loaded by fleetctl"),
    Case("other bytes under a name", live(f"{OLD}@a", more=(
        replace(loaded(OLD, "a"), digest=digest_of("other"), path="/tmp/x"),)),  # noqa: S108
         f"adapter/{OLD}@a", DriftAction.ALERT, "other bytes answer under this name, from /tmp/x"),
    Case("a route changed by hand", live("route", more=(
        route("acme-support", (OLD, 50, "a"), (FAQ, 50, "a")),)),
         "route/acme-support", DriftAction.PLAN, "changed by hand"),
    Case("a lost route", live("route"), "route/acme-support", DriftAction.HEAL,
         "1 of 2 routes and keys is gone"),
    Case("a lost table", live("route", "key"), "routes",
         DriftAction.HEAL, "2 of 2 routes and keys", 2),
    Case("another secret", live("key", more=(replace(KEY, fingerprint="f"),)), "key/acme/prod",
         DriftAction.ALERT, "another secret opens this client's models"),
    Case("an extra key", live(more=(replace(KEY, name="x"),)), "key/acme/x", DriftAction.ALERT,
         "a key that fleetctl did not make"),
    Case("a table that cannot be read", replace(live("route", "key"), routes_unknown="down"),
         "route/*", DriftAction.ALERT, "cannot be read: down"),
    Case("a server that the ledger does not know", live(more=(server("c"),)), "server/c",
         DriftAction.ALERT, "the ledger does not know it"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_one_thing_that_happened_is_one_cause(case: Case) -> None:
    (cause,) = classify_drift(established(), case.live)
    assert (cause.subject, cause.remedy) == (case.subject, case.remedy)
    assert case.says in cause.summary
    assert len(cause.addresses) == case.addresses
    assert list(cause.addresses) == sorted(set(cause.addresses)) or cause.subject in cause.addresses
    assert cause.command.startswith("fleetctl ")


def test_a_fleet_as_it_was_left_has_no_drift() -> None:
    assert classify_drift(established(), live()) == ()
    assert classify_drift(History(), State()) == ()


def test_what_is_declared_and_not_applied_yet_is_no_drift() -> None:
    assert classify_drift(established(server("a")), state(server("a"), boots={"a": "boot-1"})) == ()


def test_a_restarted_server_that_has_everything_again_is_no_drift() -> None:
    assert (
        classify_drift(established(), replace(live(), boots={"a": "boot-2", "b": "boot-9"})) == ()
    )


def test_outages_come_first_then_what_needs_people() -> None:
    rogue = loaded("test2", "b")
    found = classify_drift(established(), live("server/a", "@a", "route", more=(rogue,)))
    assert [each.subject for each in found] == [ROUTE.address, "server/a", "adapter/test2@b"]
    remedies = [DriftAction.HEAL, DriftAction.HEAL, DriftAction.ALERT]
    assert [each.remedy for each in found] == remedies
    assert [each.outage for each in found] == [OutageKind.UNSERVED, OutageKind.SERVER_DOWN, None]
    assert outages_of(established(), live("server/a", "@a", "route")) == found[:2]


def test_a_dead_server_whose_flags_are_not_known_needs_a_plan() -> None:
    (cause,) = classify_drift(established(replace(server("a"), flags=None)), state())
    assert cause.remedy is DriftAction.PLAN


def test_a_damaged_copy_is_one_cause_that_lists_whoever_was_loaded_from_it() -> None:
    damaged = {
        f"/store/{digest_of(OLD)}": "has other bytes than its digest",
        f"/store/{digest_of('unused')}": "is gone",
    }
    (cause,) = classify_drift(established(), live(), damaged)
    assert (cause.subject, cause.remedy) == (f"store/{digest_of(OLD)[:12]}", DriftAction.ALERT)
    assert f"the served copy of {OLD} has other bytes than its digest" in cause.summary
    assert cause.addresses == (f"adapter/{OLD}@a", f"adapter/{OLD}@b")
    assert cause.command == "fleetctl reconcile --once"


def test_the_resolver_answers_for_no_damaged_copy() -> None:
    restarted = replace(live("@a"), boots={"a": "boot-2"}, resolvable=RESOLVABLE)
    damage = {RESOLVABLE[adapter_address(FAQ, "a")].path: "is gone"}
    (cause,) = classify_drift(established(), restarted, damage)
    assert cause.summary.endswith("2 adapters are missing, 1 of them answered by the resolver")


def test_a_damaged_copy_of_what_others_loaded_is_not_ours_to_tell() -> None:
    rogue = loaded("test2", "a")
    (cause,) = classify_drift(established(), live(more=(rogue,)), {rogue.path: "is gone"})
    assert cause.subject == rogue.address


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("test2", "fleetctl adopt 'adapter/test2@a'"),
        ("it's", """fleetctl adopt 'adapter/it'"'"'s@a'"""),
    ],
)
def test_a_rogue_adapter_is_adopted_by_its_address(name: str, command: str) -> None:
    (cause,) = classify_drift(established(), live(more=(loaded(name, "a"),)))
    assert cause.command == command


@pytest.mark.parametrize(
    ("globs", "left"),
    [(("adapter/test*@*",), 0), (("adapter/*@b",), 1), ((), 1), (("route/*", "*@a"), 0)],
)
def test_addresses_can_be_ignored(globs: tuple[str, ...], left: int) -> None:
    causes = classify_drift(established(), live(more=(loaded("test2", "a"),)))
    assert len(without_ignored(causes, globs)) == left


def healed(causes: tuple[DriftCause, ...], now: State) -> list[type]:
    plan = repair("test", causes, established(), now, {OLD: ("hello",)})
    assert plan.id
    assert all(each.before is None for each in plan.changes)
    return [type(each.operation) for each in plan.steps]


@pytest.mark.parametrize(
    ("gone", "steps"),
    [
        (("server/a", "@a"), [StartServer, *(LoadAdapter, SmokeTest) * 2]),
        ((f"{FAQ}@a",), [LoadAdapter, SmokeTest]),
        (("key",), [SetKey]),
        (("route",), [SmokeTest, SetRoute]),
    ],
)
def test_what_is_missing_is_put_back_as_it_was_and_nothing_else(
    gone: tuple[str, ...], steps: list[type]
) -> None:
    now = live(*gone)
    found = healed(classify_drift(established(), now), now)
    assert sorted(found, key=str) == sorted(steps, key=str)


def test_what_needs_a_plan_or_a_person_is_not_healed() -> None:
    now = live("server/a", more=(MOVED, loaded("test2", "b")))
    assert healed(classify_drift(established(), now), now) == []


def test_a_plan_without_advances_has_none() -> None:
    now = live("key")
    plan = repair("test", classify_drift(established(), now), established(), now, {})
    assert advances(plan).steps == ()


@pytest.mark.parametrize("render", [render_text, render_json], ids=["text", "json"])
def test_a_rendering_names_the_cause_and_what_helps(render: Callable[..., str]) -> None:
    text = render(
        classify_drift(established(), live("server/a", "@a")), ["gateway main lags behind"]
    )
    assert "server/a" in text
    assert f"adapter/{FAQ}@a" in text
    assert "fleetctl reconcile --once" in text
    assert "gateway main lags behind" in text


def test_long_lists_are_cut_in_text_and_whole_in_json() -> None:
    many = tuple(Address(f"adapter/acme-t{number}-tiny-v1.0.0@a") for number in range(40))
    cause = DriftCause(
        Address("server/a"), DriftAction.HEAL, "it has ended", many, "fleetctl reconcile"
    )
    assert "… and 28 more" in render_text([cause])
    assert all(each in render_json([cause]) for each in many)
    assert render_text([]).startswith("No drift")


def test_a_gateway_that_ended_is_an_outage_whatever_the_ledger_knows() -> None:
    address = Address("gateway/main")
    ended = Fault("is not running", "fleetctl gateway start", OutageKind.GATEWAY_DOWN, heals=True)
    seen = replace(live(), faults={address: ended})
    for known in (History(), established()):
        assert [each.subject for each in outages_of(known, seen)] == [address]
