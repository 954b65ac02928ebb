"""Drift as problems at the lines that declare its subjects, and as issues."""

import json

import pytest

from fleet.names import Address
from fleet.planning import DriftAction, DriftCause
from fleet.resources import OutageKind
from fleet.spec import FleetSpec
from plans.reports.drift import as_diagnostics, render_issues
from runtime.project.load import load_project
from tests.fleetctl.project_on_disk import QUICKSTART


@pytest.fixture(scope="module")
def fleet() -> FleetSpec:
    return load_project(QUICKSTART, "fake", {}).fleet


def cause(subject: str, summary: str = "gone", outage: OutageKind | None = None) -> DriftCause:
    command = "fleetctl reconcile --once"
    its = Address(subject)
    return DriftCause(its, DriftAction.HEAL, summary, (its,), command, outage)


@pytest.mark.parametrize(
    ("subject", "file", "words"),
    [
        ("adapter/acme-support-tiny-v2.1.0@tiny-laptop-cpu0", "clients/acme.yaml", "support"),
        ("route/acme-triage", "clients/acme.yaml", "triage"),
        ("key/birch/prod", "clients/birch.yaml", "prod"),
        ("server/tiny-laptop-cpu0", "fleet.yaml", "cpu0"),
        ("gateway/main", "fleet.yaml", "main"),
        ("adapter/left-support-tiny-v2.1.0@tiny-laptop-cpu0", "fleet.yaml", ""),
        ("ledger", "fleet.yaml", ""),
    ],
)
def test_a_cause_stands_at_the_line_that_declares_its_subject(
    fleet: FleetSpec, subject: str, file: str, words: str
) -> None:
    (found,) = as_diagnostics([cause(subject)], fleet)
    assert found.place is not None
    assert found.place.file == file
    lines = (QUICKSTART / file).read_text(encoding="utf-8").splitlines()
    assert words in lines[found.place.line - 1]
    assert (found.code, found.severity) == ("drift-heal", "warning")


def test_an_outage_is_an_error_with_its_kind(fleet: FleetSpec) -> None:
    down = cause("gateway/main", outage=OutageKind.GATEWAY_DOWN)
    (found,) = as_diagnostics([down], fleet)
    assert (found.code, found.severity) == ("outage-gateway_down", "error")


def test_an_issue_keeps_its_mark_while_its_summary_changes() -> None:
    first, later, other = (
        json.loads(render_issues([one], "quickstart"))[0]["mark"]
        for one in (cause("a/b"), cause("a/b", "gone again"), cause("a/c"))
    )
    assert first == later != other


def test_an_issue_is_safe_in_public() -> None:
    hostile = cause("adapter/x@s", "from /srv/secret at http://10.0.0.1 <img> @everyone -->")
    (issue,) = json.loads(render_issues([hostile], "quickstart"))
    assert issue["body"].startswith(issue["mark"])
    for text in ("/srv", "10.0.0.1", "<img", "@everyone"):
        assert text not in issue["body"].removeprefix(issue["mark"])
