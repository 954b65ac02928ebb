"""The outages that drift, status and reconcile name, which must agree."""

import json
from pathlib import Path
from typing import Any

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project


def state(project: Project) -> Path:
    return project.root / ".fleetctl"


def outages(project: Project) -> list[dict[str, Any]]:
    """Return the outages of drift, which are the first causes and the first lines of status."""
    found = call(project, "drift", "--format", "json")
    document = json.loads(found.stdout)
    named = [cause for cause in document["causes"] if cause["outage"]]
    assert document["causes"][: len(named)] == named
    assert document["outages"] == len(named)
    assert found.returncode == (2 if document["causes"] else 0)
    shown = json.loads(call(project, "status", "--format", "json").stdout)
    for row in shown.get("outages", []):
        assert set(row["unanswered"] or ()) <= {alias["alias"] for alias in shown["aliases"]}
        row["unanswered"] = None if row["subject"].startswith("gateway/") else row["unanswered"]
    assert shown.get("outages", []) == named
    text = call(project, "status").stdout
    assert text.startswith(f"OUTAGE {named[0]['subject']}: " if named else "Fleet ")
    assert all(cause["impact"] and cause["command"] for cause in named)
    return named


def the_outage(project: Project) -> tuple[str, str, str]:
    (found,) = outages(project)
    return found["outage"], found["subject"], found["summary"]


def left(project: Project) -> list[tuple[str, str]]:
    """Return the outages that a round of reconcile leaves, as its JSON lines tell them."""
    done = call(project, "reconcile", "--once", "--format", "json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(line["outage"], line["subject"]) for line in lines if line["type"] == "outage"]
    assert done.returncode == (2 if found else 0), done.stderr
    return found
