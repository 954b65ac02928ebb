"""Routes, keys and what rests on them: one table, never over somebody else's."""

import asyncio
from dataclasses import replace

import pytest

from fleet.hardware import AttachedServerSpec
from fleet.names import route_address
from fleet.resources import LoadedAdapter, Server, State
from fleet.steps import Drain
from plans.reports.apply_progress import record
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import StepOutcome
from runtime.gateway.table.table import AliasEntry, RoutingTable, ShareEntry
from tests.fleet.planning.builders import adapter, attached, device, fleet, host
from tests.runtime.execute.bench import Bench
from tests.runtime.execute.small_fleet import DAY, FAQ, NEW, OLD, declared, verdicts


def test_a_thousand_routes_are_one_table_and_two_flushes(bench: Bench) -> None:
    names = [f"client{number}-task-tiny-v1.0.0" for number in range(1000)]
    servers = tuple(
        AttachedServerSpec(f"s{number}", f"http://s{number}:8000", "tiny", 64, 64, 0.0)
        for number in range(20)
    )
    many = fleet(*(adapter(each, smoke=()) for each in names), hosts=[attached("laptop", *servers)])
    engine = bench.engines["laptop"]
    for each in servers:
        engine.servers[each.name] = Server(each.name, each.base, "laptop", (), 8000, None)
        engine.boots[each.name] = 1
    assert asyncio.run(bench.apply(many)).exit_code == 0
    assert engine.observed <= 4 * len(servers)
    bench.gateways.table = RoutingTable(revision=bench.gateways.table.revision + 1)
    bench.gateways.published = 0
    with bench.faults(lambda _number, _label: None):
        outcome = asyncio.run(bench.apply(many))
    assert len(outcome.results) == 1000
    assert len(bench.gateways.table.aliases) == 1000
    assert bench.gateways.published == 1
    flushes = [each for each in bench.passed if "after append" in each and " set route" in each]
    assert len(flushes) == 2


def test_the_table_names_the_bytes_that_servers_were_seen_to_hold(bench: Bench) -> None:
    def named() -> dict[str, str | None]:
        entries = bench.gateways.table.aliases.values()
        return {share.adapter: share.digest for entry in entries for share in entry.shares}

    asyncio.run(bench.apply(declared(OLD, FAQ)))
    live = asyncio.run(bench.observe()).adapters().values()
    held = {adapter.adapter: (adapter.digest or "")[:12] for adapter in live}
    assert named() == held
    assert "" not in held.values()
    asyncio.run(bench.apply(declared(NEW, FAQ)))
    assert len(named()) == 3
    assert held.items() <= named().items()


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ({}, "1" * 12),  # no server was seen: as the table says
        ({"s1": "2" * 64}, "2" * 12),
        ({"s1": "2" * 64, "s2": "2" * 64, "s3": "3" * 64}, "2" * 12),
        ({"s1": "2" * 64, "s2": "3" * 64}, None),
        ({"s1": "2" * 64, "s2": None}, None),
        ({"s1": None}, None),
    ],
)
def test_a_version_is_named_by_its_bytes_only_where_all_its_servers_hold_them(
    bench: Bench, held: dict[str, str | None], named: str | None
) -> None:
    share = ShareEntry(adapter=OLD, percent=100, servers=("s1", "s2"), digest="1" * 12)
    loaded = (LoadedAdapter(OLD, server, digest) for server, digest in held.items())
    view = LiveView(bench.world(), {})
    view.learn(State({adapter.address: adapter for adapter in loaded}))
    entry = view.with_digests(AliasEntry(client="acme", salt="s", shares=(share,)))
    assert [share.digest for share in entry.shares] == [named]


def test_a_rollback_after_planning_makes_its_branch_stale_and_no_other(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    asyncio.run(bench.apply(declared(NEW, FAQ)))
    bench.now += DAY
    plan = asyncio.run(bench.plan(declared(NEW, FAQ, "dune-orders-tiny-v1.0.0")))
    assert route_address("acme-support") in {each.address for each in plan.changes}
    flip(bench, "acme-support", {NEW: 0, OLD: 100})
    outcome = asyncio.run(bench.apply(declared(NEW, FAQ), plan=plan))
    assert outcome.exit_code == 5
    found = verdicts(outcome)
    assert found.pop("set route/acme-support") == "stale"
    assert set(found.values()) == {"done"}
    assert bench.shares("acme-support") == {"1.1.0": 0, "1.0.0": 100}
    assert bench.shares("dune-orders") == {"1.0.0": 100}


def flip(bench: Bench, alias: str, shares: dict[str, int]) -> None:
    """Write the table as a rollback does: no lease, the token stays."""
    table = bench.gateways.table
    entry = table.aliases[alias]
    flipped = tuple(
        ShareEntry(adapter=each.adapter, percent=shares[each.adapter], servers=each.servers)
        for each in entry.shares
    )
    aliases = {**table.aliases, alias: entry.model_copy(update={"shares": flipped})}
    update = {"aliases": aliases, "revision": table.revision + 1}
    bench.gateways.table = table.model_copy(update=update)


def test_a_rollback_while_the_table_is_being_written_is_not_overwritten(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    asyncio.run(bench.apply(declared(NEW, FAQ)))
    bench.now += DAY
    flipped: list[str] = []

    def meanwhile(_: int, label: str) -> None:
        if label == "before publish" and not flipped:
            flipped.append(label)
            flip(bench, "acme-support", {NEW: 0, OLD: 100})

    with bench.faults(meanwhile):
        outcome = asyncio.run(bench.apply(declared(NEW, FAQ)))
    assert verdicts(outcome) == {"set route/acme-support": "stale"}
    assert bench.shares("acme-support") == {"1.1.0": 0, "1.0.0": 100}


def test_a_version_that_a_rollback_brought_back_is_not_unloaded(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    plan = asyncio.run(bench.plan(declared(OLD)))
    table = bench.gateways.table
    back = {each.address: each for each in asyncio.run(bench.observe()).routes().values()}
    assert route_address("birch-faq") in back

    def bring_back(_: int, label: str) -> None:
        if label == "after publish":
            update = {"revision": bench.gateways.table.revision + 1}
            bench.gateways.table = table.model_copy(update=update)

    with bench.faults(bring_back):
        outcome = asyncio.run(bench.apply(declared(OLD), plan=plan))
    found = verdicts(outcome)
    assert found[f"drain adapter/{FAQ}@tiny-laptop-cpu0"] == "stale"
    assert found[f"unload adapter/{FAQ}@tiny-laptop-cpu0"] == "blocked"
    assert ("tiny-laptop-cpu0", FAQ) in bench.engines["laptop"].paths


def test_a_version_is_unloaded_when_its_last_request_has_ended(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    bench.gateways.busy["tiny-laptop-cpu0", FAQ] = 3
    assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0
    assert bench.gateways.busy["tiny-laptop-cpu0", FAQ] == 0
    assert list(bench.engines["laptop"].paths) == [("tiny-laptop-cpu0", OLD)]


def test_a_version_whose_requests_do_not_end_stays_loaded(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    bench.gateways.busy["tiny-laptop-cpu0", FAQ] = 10**9
    plan = asyncio.run(bench.plan(declared(OLD)))
    steps = tuple(
        replace(each, operation=replace(each.operation, deadline_s=0))
        if isinstance(each.operation, Drain)
        else each
        for each in plan.steps
    )
    outcome = asyncio.run(bench.apply(declared(OLD), plan=replace(plan, steps=steps)))
    assert outcome.exit_code == 4
    assert ("tiny-laptop-cpu0", FAQ) in bench.engines["laptop"].paths


@pytest.mark.parametrize(("secret", "code"), [(None, "FC5117"), ("another", "FC5118")])
def test_a_key_that_is_not_the_planned_one_is_not_set(
    bench: Bench, secret: str | None, code: str
) -> None:
    plan = asyncio.run(bench.plan(declared(OLD)))
    bench.secrets = {"env:KEY": secret} if secret else {}
    outcome = asyncio.run(bench.apply(declared(OLD), plan=plan))
    result = outcome.results["set key/acme/prod"]
    assert (result.verdict, result.diagnostics[0].code) == (StepOutcome.FAILED, code)
    assert bench.gateways.table.keys == {}
    assert bench.shares("acme-support") == {"1.0.0": 100}


def test_no_secret_reaches_ledger_or_events(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    secret = bench.secrets["env:KEY"]
    entry = bench.gateways.table.keys["acme/prod"]
    text = (bench.folder / "ledger.jsonl").read_text()
    told = "".join(record(each, 1, bench.now, "run", "plan") for each in bench.events)
    assert secret not in text + told + bench.gateways.table.canonical()
    assert entry.sha256 not in text + told


def test_a_server_that_comes_back_on_another_port_is_readdressed(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    assert bench.gateways.table.servers == {"tiny-laptop-cpu0": "http://127.0.0.1:8100"}
    bench.engines["laptop"].crash("tiny-laptop-cpu0")
    moved = host("laptop", device("cpu0", port=8200), device("cpu1", port=8101))
    elsewhere = replace(declared(OLD), hosts={"laptop": moved})
    assert asyncio.run(bench.apply(elsewhere)).exit_code == 0
    assert bench.gateways.table.servers == {"tiny-laptop-cpu0": "http://127.0.0.1:8200"}


def test_an_address_that_the_table_lost_is_found_again(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    table = bench.gateways.table
    bench.gateways.table = table.model_copy(update={"servers": {}, "revision": table.revision + 1})
    assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0
    assert bench.gateways.table.servers == {"tiny-laptop-cpu0": "http://127.0.0.1:8100"}
