"""I10: a rollback needs no planner, no evaluation and no database: neither by what it imports
nor in fact. Whatever the past and whatever is broken, it finds a way back or says why not.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grimp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.codec import plain
from fleet.errors import FleetError
from fleet.history import Adopted
from fleet.resources import LoadedAdapter
from fleetctl.wiring import open_workspace
from runtime.fake_vllm.weights import FakeWeights
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.table.table import AliasEntry
from runtime.ledger import open_ledger
from runtime.operations.rollouts.rollback import roll_back
from runtime.rollback.rollback import RollbackRequest
from runtime.workspace import Workspace
from tests.fleet.rollouts.gate_trials import ALIAS, NEW, NEXT, OLD
from tests.fleet.rollouts.rollout_laws import Tick, out_of
from tests.fleet.rollouts.rollout_world import TWIN, World, bytes_of, happen, stories
from tests.runtime.gateway.stage import Stage, alias, stage, table

DOWN = (
    "fleet.planning", "fleet.rollouts", "fleet.placement", "fleet.packing", "fleet.evals",
    "runtime.evals", "runtime.execute", "runtime.gates", "runtime.operations.rounds.judge",
    "sqlite3", "duckdb", "psycopg", "obstore", "networkx", "highspy", "numpy", "ruamel",
)  # fmt: skip
"""What plans, asks gates, evaluates or is a database; how a finding is read is no part of it."""
NAMES = (NEXT, TWIN, NEW, OLD)
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder
class Down(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in DOWN):
            raise ModuleNotFoundError(f"{name} is down", name=name)
DOWN = sys.argv.pop(1).split(",")
sys.meta_path.insert(0, Down())
from fleetctl.cli import main
main()
"""


@pytest.mark.parametrize(
    "flips",
    [
        "runtime.rollback.rollback", "runtime.rollback.publish", "runtime.smoke",
        "runtime.operations.rollouts.rollback", "runtime.operations.notify",
    ],
)  # fmt: skip
def test_nothing_that_plans_judges_or_stores_is_imported_however_far(flips: str) -> None:
    graph = grimp.build_graph(
        "fleetctl", "fleet", "plans", "runtime", include_external_packages=True
    )
    reached = graph.find_upstream_modules(flips)
    assert "runtime.gateway.admin.protocol" in reached or flips == "runtime.smoke"
    laws = {each for each in DOWN if not each.startswith("fleet.gates")}  # findings have a type
    if flips.startswith("runtime.operations."):
        # Declarations are read where they can be, and a declared home is asked.
        laws -= {"ruamel", "psycopg"}
    assert {
        name
        for name in reached
        if any(name == each or name.startswith(f"{each}.") for each in laws)
    } == set()


def test_the_command_works_while_all_of_that_cannot_be_imported(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=50) as ours:
            command = ("rollback", ALIAS, "--reason", "all is down", "--smoke", "Hi")
            asked = await asyncio.create_subprocess_exec(
                sys.executable, "-c", BLOCKED, ",".join(DOWN), *command, cwd=tmp_path,
                env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin",
                     "FLEETCTL_RUN_DIR": os.environ["FLEETCTL_RUN_DIR"]},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, told = await asked.communicate()
            assert asked.returncode == 0, told.decode()
            assert b"acme-support back on 2.1.0 in" in out
            assert (await ours.gateways.read_table())[0].aliases[ALIAS].shares[1].percent == 100

    asyncio.run(scenario())


async def arranged(ours: Stage, root: Path, world: World, damage: str) -> Workspace:
    """Route and load what a story led to, write its ledger, and break what is to be broken."""
    listed = ours.replicas["s1"].memory
    for name in NAMES:
        listed.listed[name] = f"/store/{name}"
        listed.cached[name] = FakeWeights(f"/store/{name}", name)
    shares = ((each.adapter, each.percent, ("s1",)) for each in world.live.shares)
    aliases = {**table(ours.servers).aliases, ALIAS: alias("acme", *shares)}
    await ours.publish(table(ours.servers, revision=2).model_copy(update={"aliases": aliases}))
    workspace = open_workspace(root, None, {}, root / ".fleetctl")
    there = (LoadedAdapter(name, "s", bytes_of(name)) for name in NAMES)
    loaded = [Adopted(each.address, plain(each)) for each in there]
    ledger = open_ledger(workspace.state_dir, run="r", by="ana", clock=workspace.now)
    ledger.append([*loaded, *(each.event for each in world.entries)])
    (root / "fleet.yaml").write_text("no: [fleet", encoding="utf-8")  # what nobody could plan by
    (workspace.state_dir / "evals").write_text("no folder", encoding="utf-8")
    home = workspace.state_dir / "ledger.jsonl"
    if damage == "home away":
        workspace.ledger.history()  # leaves a copy
        home.unlink()
        home.mkdir()
    elif damage == "lost":
        home.unlink()
    elif damage == "garbage":
        home.write_bytes(b"garbage\n" + home.read_bytes())
    return workspace


@given(story=stories, damage=st.sampled_from(["", "home away", "lost", "garbage"]))
@settings(max_examples=12, deadline=None)
def test_whatever_the_past_and_whatever_is_lost_a_way_back_is_found_or_said_to_be_none(
    story: list[tuple[str, Any]], damage: str
) -> None:
    world = World(target=NEW)
    for kind, what in (("pass", None), ("wait", 25), *story):
        happen(world, kind, what)
        world.tick()

    async def scenario(root: Path) -> None:
        async with stage(root / ".fleetctl") as ours:
            workspace = await arranged(ours, root, world, damage)
            await flips_or_says_why(workspace, world, known=damage in ("", "home away"))

    with TemporaryDirectory() as root:
        asyncio.run(scenario(Path(root)))


async def flips_or_says_why(workspace: Workspace, world: World, *, known: bool) -> None:
    before = routes(workspace)
    shares = before[ALIAS].shares
    newest = next(at for at, each in enumerate(shares) if each.percent)
    out = out_of(Tick(world, world.shares, world.history, world.wanted())) if known else set()
    proven = world.history.answered_all if known else {each.adapter for each in shares}
    fit = [
        each.adapter
        for each in shares[newest + 1 :]
        if each.percent or (each.adapter in proven and bytes_of(each.adapter) not in out)
    ]
    try:
        done = await roll_back(workspace, RollbackRequest(ALIAS), smoke=("Hi",))
    except FleetError as error:
        code = error.diagnostics[0].code
        assert (code, fit) == ("FC6025" if shares[newest + 1 :] else "FC6022", [])
        assert routes(workspace) == before
        return
    after = routes(workspace)
    assert done.complete
    assert {each.adapter: each.percent for each in after.pop(ALIAS).shares} == {
        each.adapter: 100 * (each.adapter == done.target) for each in shares
    }
    assert after == {key: each for key, each in before.items() if key != ALIAS}
    stays = known and newest and shares[newest - 1].adapter in world.history.holds.get(ALIAS, {})
    assert done.target in fit or (stays and done.target == shares[newest].adapter)


def routes(workspace: Workspace) -> dict[str, AliasEntry]:
    found = read_table(workspace.state_dir)
    assert found is not None
    aliases: Mapping[str, AliasEntry] = found.aliases
    return dict(aliases)
