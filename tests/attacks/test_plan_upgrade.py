"""After an upgrade, a plan of the release before is carried out for the same changes alone."""

import json
from pathlib import Path

import pytest

from fleet.encoding import plain
from fleet.history import Adopted, ApplyFinished, ApplyStarted
from fleet.resources import Key
from plans.documents.plan_file import dump
from runtime.operations.planning import plan_fleet
from runtime.workspace import Workspace
from tests.attacks.reviewed import NOTHING, codes, made, resealed, workspace, workspace_of
from tests.attacks.test_plan_files import FORGERIES

__all__ = ["made", "workspace"]


@pytest.fixture
def upgraded(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A fleet that an earlier release applied."""
    here = workspace_of(tmp_path, workspace.fleet())
    here.state_dir.mkdir()
    here.ledger().append([Adopted("key/dune/prod", plain(Key("dune", "prod", "env:K", None)))])
    return here


@pytest.mark.parametrize(
    "forgery",
    [
        "bytes of another client",
        "bytes of another client in the change too",
        "no digest",
        "another model",
        "code of strangers",
        "middleware",
        "another port",
        "another host",
        "all traffic at once",
        "another client's route",
        "another salt",
        "another client's version",
        "one junk step",
        "many junk steps",
        "a change that is not shown",
        "no steps",
    ],
)
def test_a_forged_plan_of_the_release_before_is_refused(upgraded: Workspace, forgery: str) -> None:
    document = json.loads(dump(plan_fleet(upgraded, NOTHING)))
    FORGERIES[forgery](document)
    assert codes(upgraded, resealed(document)) == {"FC3040"}


def test_another_order_of_steps_is_refused_from_the_first_apply_on(upgraded: Workspace) -> None:
    document = json.loads(dump(plan_fleet(upgraded, NOTHING)))
    for section in ("decisions", "observations"):
        document[section]["steps"].reverse()
    text = resealed(document)
    later = workspace_of(upgraded.root, upgraded.fleet())
    later.ledger().append([ApplyStarted("f", "f", "", "apply", 0, 0), ApplyFinished("f")])
    assert codes(later, text) == {"FC3040"}


def test_another_order_of_steps_is_taken_after_an_upgrade(upgraded: Workspace) -> None:
    document = json.loads(dump(plan_fleet(upgraded, NOTHING)))
    for section in ("decisions", "observations"):
        document[section]["steps"].reverse()
    assert codes(upgraded, resealed(document)) == set()
