"""A small fleet with its plan, and `apply`'s judgement on files that claim to be that plan."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.codec import identify
from fleet.errors import FleetError
from fleet.plan import Plan
from fleet.resources import State
from fleet.spec import FleetSpec
from plans.documents.plan_file import load
from runtime.operations.change.planning import plan_fleet
from runtime.operations.change.reviewed import require_reviewed
from runtime.workspace import Workspace
from tests.fleet.planning.builders import adapter, base, fleet

Document = dict[str, Any]
NOTHING = State()
ACME, BIRCH = "acme-support-tiny-v1.0.0", "birch-faq-tiny-v2.0.0"
EVIL = "e" * 64
MALFORMED = {"FC5001", "FC5004"}


def workspace_of(folder: Path, declared: FleetSpec) -> Workspace:
    made = Workspace(
        folder, None, {}, folder / "state", lambda _: None, lambda *_: {}, lambda _: None  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    made.given = declared
    return made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    declared = fleet(adapter(ACME), adapter(BIRCH), bases=(base("tiny"),))
    return workspace_of(tmp_path_factory.mktemp("reviewed"), declared)


@pytest.fixture(scope="module")
def made(workspace: Workspace) -> Plan:
    return plan_fleet(workspace, NOTHING)


def resealed(document: Document) -> str:
    """Return a forged plan with the id that its decisions have."""
    return json.dumps(document | {"plan_id": identify(document["decisions"])})


def codes(workspace: Workspace, text: str, live: State = NOTHING) -> set[str]:
    """Return why `apply` refuses a plan file; empty where it takes the file."""
    try:
        require_reviewed(workspace, load(text), live)
    except FleetError as error:
        return {found.code for found in error.diagnostics}
    return set()


def step(document: Document, verb: str) -> Document:
    found: Document = next(
        step["operation"]
        for step in document["decisions"]["steps"]
        if step["operation"]["verb"] == verb
    )
    return found
