"""Names are names before they become paths: in plan files, launch records and the ledger."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.history import StepStarted
from fleet.plan import Plan
from fleet.resources import Server
from plans.documents.plan_file import dump
from runtime.engines.launch_records import RECORD, LaunchRecord, LaunchRecords
from runtime.workspace import Workspace
from tests.attacks.reviewed import Document, codes, made, resealed, step, workspace, workspace_of

__all__ = ["made", "workspace"]

NAMES = ("../../../evil_out", "/etc/cron.d/x", "..", ".", "", "a/b", "a\\b", "a\nb", "A", "a b",
         "a\0b", "x" * 9 + "/..", "é", "-rf", "a--b", "a-", "$(id)", "~root")  # fmt: skip
NAMED: dict[str, Callable[[Document, str], object]] = {
    "server": lambda d, name: step(d, "start")["server"].update(name=name),
    "host": lambda d, name: step(d, "start")["server"].update(host=name),
    "server of a version": lambda d, name: step(d, "load")["adapter"].update(server=name),
    "alias": lambda d, name: step(d, "set_route")["route"].update(alias=name),
    "server of a share": lambda d, name: step(d, "set_route")["route"]["shares"][0].update(
        servers=[name]
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", NAMED)
def test_a_name_that_is_no_name_is_refused_before_it_is_a_path(
    workspace: Workspace, made: Plan, field: str, name: str
) -> None:
    document = json.loads(dump(made))
    NAMED[field](document, name)
    assert codes(workspace, resealed(document)) == {"FC5004"}


@pytest.mark.parametrize("name", NAMES)
def test_a_launch_record_of_another_name_is_no_record(
    tmp_path: Path, name: str, made: Plan
) -> None:
    server, *_ = (change.after for change in made.changes if isinstance(change.after, Server))
    assert server.flags is not None
    record = LaunchRecord.of(server, server.flags, "http://127.0.0.1:1", "f" * 32)
    records = LaunchRecords(tmp_path)
    records.write(record)
    assert records.read(server.name) == record
    file = tmp_path / server.name / RECORD
    file.write_text(json.dumps(record.model_dump(mode="json") | {"name": name}))
    assert records.read(server.name) is None
    assert list(records.all()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_ledger_entry_with_a_name_that_is_none_ends_in_an_error_for_people(
    workspace: Workspace, made: Plan, tmp_path: Path, name: str
) -> None:
    here = workspace_of(tmp_path, workspace.fleet())
    operation = step(json.loads(dump(made)), "start")
    operation["server"]["name"] = name
    here.state_dir.mkdir()
    here.ledger().append([StepStarted("f" * 16, "start", f"server/{name}", operation)])
    with pytest.raises(FleetError) as caught:
        here.history()
    assert caught.value.diagnostics[0].code == "FC3043"
