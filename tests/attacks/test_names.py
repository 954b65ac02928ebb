"""Names are names before they become paths: in plan files, launch records and the ledger."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.history import StepStarted
from fleet.plan import Plan
from fleet.resources import Server
from fleet.steps import LoadAdapter
from plans.documents import live_file
from plans.documents.plan_file import dump
from runtime.engines.launch_records import RECORD, LaunchRecord, LaunchRecords
from runtime.evals.store import EvalStore
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import parse_routes
from runtime.operations.change.planning import plan_fleet
from runtime.workspace import Workspace
from tests.attacks.reviewed import (
    ACME,
    EVIL,
    Document,
    codes,
    made,
    resealed,
    step,
    workspace,
    workspace_of,
)

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
    here = workspace_of(tmp_path, workspace.project.fleet())
    operation = step(json.loads(dump(made)), "start")
    operation["server"]["name"] = name
    here.state_dir.mkdir()
    here.ledger.open().append([StepStarted("f" * 16, "start", f"server/{name}", operation)])
    with pytest.raises(FleetError) as caught:
        here.ledger.history()
    assert caught.value.diagnostics[0].code == "FC3043"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["unknown_servers", "boots", "urls", "versions", "gateways"])
def test_a_live_state_names_servers_and_gateways_as_declarations_do(field: str, name: str) -> None:
    value = {"what": "w", "command": ""} if field == "gateways" else "x"
    document = {"format": "fleetctl-live", "format_version": "1.0", field: {name: value}}
    with pytest.raises(FleetError) as caught:
        live_file.load(json.dumps(document))
    assert caught.value.diagnostics[0].code == "FC5006"


TABLE = {
    "revision": 1,
    "servers": {"s1": "http://127.0.0.1:1"},
    "launches": {"s1": "f" * 12},
    "aliases": {
        "acme-support": {
            "client": "acme",
            "salt": "x",
            "shares": [{"adapter": ACME, "percent": 100, "servers": ["s1"]}],
        }
    },
    "keys": {"acme/prod": {"client": "acme", "name": "prod", "reference": "env:K", "sha256": EVIL}},
}
TABLES: dict[str, Callable[[Document, str], object]] = {
    "server": lambda d, name: d["servers"].update({name: "http://127.0.0.1:1"}),
    "launch": lambda d, name: d["launches"].update({name: "f" * 12}),
    "alias": lambda d, name: d["aliases"].update({name: d["aliases"]["acme-support"]}),
    "alias of the client": lambda d, name: d["aliases"].update(
        {f"acme-{name}": d["aliases"]["acme-support"]}
    ),
    "client": lambda d, name: d["aliases"]["acme-support"].update(client=name),
    "server of a share": lambda d, name: d["aliases"]["acme-support"]["shares"][0].update(
        servers=[name]
    ),
    "client of a key": lambda d, name: d["keys"].update(
        {f"{name}/prod": d["keys"]["acme/prod"] | {"client": name}}
    ),
    "key": lambda d, name: d["keys"].update(
        {f"acme/{name}": d["keys"]["acme/prod"] | {"name": name}}
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", TABLES)
def test_a_routing_table_with_a_name_that_is_none_is_neither_read_nor_served(
    field: str, name: str
) -> None:
    document = deepcopy(TABLE)
    TABLES[field](document, name)
    with pytest.raises(ValueError, match=r"."):
        RoutingTable.model_validate(document)
    with pytest.raises(ValueError, match=r"."):
        parse_routes(json.dumps(document).encode())


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_a_name_that_is_none_is_no_file(tmp_path: Path, name: str) -> None:
    store = EvalStore(tmp_path / "evals")
    assert store.path(f"{name}.") == store.folder / "no-run.jsonl"
    assert store.found(f"{name}/../x") is None


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_a_version_of_another_name_is_never_taken_for_one_of_the_library(
    name: str, made: Plan, workspace: Workspace
) -> None:
    load = step(json.loads(dump(made)), "load")["adapter"] | {"adapter": name}
    read = live_file.load(
        json.dumps({"format": "fleetctl-live", "format_version": "1.0", "resources": [
            step(json.loads(dump(made)), "start")["server"], load,
        ]})
    )  # fmt: skip
    (seen,) = read.adapters().values()
    assert (seen.adapter, seen.digest) == (name, None)
    loads = [s.operation for s in plan_fleet(workspace, read).steps]
    assert name not in {work.adapter.adapter for work in loads if isinstance(work, LoadAdapter)}
