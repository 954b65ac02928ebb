"""Routes that were not applied: found, named, planned back, and no reason to unload a version."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.gateway.admin.state_dir import TABLE_FILE, read_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project, applied

ALIAS, VERSION, SERVER = "acme-support", "acme-support-tiny-v2.1.0", "tiny-laptop-cpu0"
FORGERIES = {
    "a version of another client": "birch-units-tiny-v1.0.0",
    "a version of another alias": "acme-triage-tiny-v1.0.0",
    "a version that no server holds": "acme-support-tiny-v2.2.0",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with its gateway; tests leave both as they were."""
    for made in applied(tmp_path_factory.mktemp("fleet")):
        assert call(made, "gateway", "start").returncode == 0
        yield made


def state(project: Project) -> Path:
    return project.root / ".fleetctl"


def table_of(project: Project) -> RoutingTable:
    found = read_table(state(project))
    assert found is not None
    return found


def forged(table: RoutingTable, adapter: str, percent: int = 100) -> RoutingTable:
    """Return the next revision, in which the alias goes to another version."""
    entry = table.aliases[ALIAS]
    share = entry.shares[0].model_copy(update={"adapter": adapter, "percent": percent})
    aliases = {**table.aliases, ALIAS: entry.model_copy(update={"shares": (share,)})}
    return table.model_copy(update={"aliases": aliases, "revision": table.revision + 1})


def write(project: Project, table: RoutingTable, digest: str | None = None) -> None:
    """Write the file as a person with an editor would; `digest` None: the right digest."""
    body = table.canonical()
    known = hashlib.sha256(body.encode()).hexdigest() if digest is None else digest
    text = f'{{"digest":"{known}",{body[1:]}\n' if known else body
    (state(project) / TABLE_FILE).write_text(text, encoding="utf-8")


async def push(project: Project, table: RoutingTable) -> None:
    async with LocalGateways(state(project)) as gateways:
        await gateways._client("main").serve(table)


def adapters(project: Project) -> int:
    shown = json.loads(call(project, "status", "--format", "json").stdout)
    return int(shown["servers"][0]["adapters"])


def drift_and_plan(project: Project) -> tuple[Done, Done]:
    return call(project, "drift"), call(project, "plan", "--detailed-exitcode")


def require_named_and_mended(project: Project, before: RoutingTable) -> None:
    """Require that the change is named and planned back, and that apply mends no more than that."""
    held = adapters(project)
    drift, planned = drift_and_plan(project)
    assert (drift.returncode, planned.returncode) == (2, 2)
    assert f"route/{ALIAS}: the route was changed by hand" in drift.stdout
    assert "Helps: fleetctl plan" in drift.stdout
    assert "Changes: 1 route to shift." in planned.stdout
    assert "the live route is not the one that was applied" in planned.stdout
    assert "unload" not in planned.stdout
    status = call(project, "status").stdout
    assert "its route is not the one that was applied (2.1.0 100 %): fleetctl plan" in status
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert table_of(project).aliases == before.aliases
    assert adapters(project) == held
    drift, planned = drift_and_plan(project)
    assert (drift.returncode, planned.returncode) == (0, 0), drift.stdout


@pytest.mark.parametrize("digest", [None, ""], ids=["with its digest", "without a digest"])
@pytest.mark.parametrize("adapter", FORGERIES.values(), ids=FORGERIES)
def test_a_route_that_was_edited_in_the_file_is_planned_back(
    project: Project, adapter: str, digest: str | None
) -> None:
    before = table_of(project)
    write(project, forged(before, adapter), digest)
    require_named_and_mended(project, before)


def test_a_file_with_a_wrong_digest_is_damaged_and_the_gateway_s_table_counts(
    project: Project,
) -> None:
    before = table_of(project)
    write(project, forged(before, FORGERIES["a version of another alias"]), "0" * 64)
    drift, planned = drift_and_plan(project)
    assert "its digest does not fit" in drift.stdout + drift.stderr
    assert planned.returncode == 0
    assert "its digest does not fit" in planned.stdout + planned.stderr
    held = adapters(project)
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert adapters(project) == held
    write(project, before)


@pytest.mark.parametrize(
    "adapter", [FORGERIES["a version of another alias"], "acme-support-tiny-v2.2.0"]
)
def test_a_table_that_was_pushed_to_the_gateway_is_planned_back(
    project: Project, adapter: str
) -> None:
    before = table_of(project)
    asyncio.run(push(project, forged(before, adapter)))
    require_named_and_mended(project, before)


def test_an_older_table_that_the_gateway_started_from_is_planned_back(project: Project) -> None:
    before = table_of(project)
    assert call(project, "gateway", "stop").returncode == 0
    older = forged(before, FORGERIES["a version of another alias"])
    write(project, older.model_copy(update={"revision": 1}))
    (state(project) / "routes.previous.json").unlink()
    assert call(project, "gateway", "start").returncode == 0
    require_named_and_mended(project, before)


def test_an_older_table_that_is_what_is_declared_is_written_down(project: Project) -> None:
    clients = project.root / "clients/acme.yaml"
    older, declared = (state(project) / TABLE_FILE).read_bytes(), clients.read_text("utf-8")
    limited = declared.replace(
        "base: tiny\n", "base: tiny\n        limits: {concurrency: 500}\n", 1
    )
    clients.write_text(limited, encoding="utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert call(project, "gateway", "stop").returncode == 0
    (state(project) / TABLE_FILE).write_bytes(older)
    assert call(project, "gateway", "start").returncode == 0
    clients.write_text(declared, encoding="utf-8")
    drift, plan = drift_and_plan(project)
    assert drift.returncode == 2
    assert f"route/{ALIAS} was changed by others to what is declared" in plan.stdout.replace(
        ": ", " "
    )
    applied_again = call(project, "apply", "--auto", "--yes")
    assert (applied_again.returncode, call(project, "drift").returncode) == (0, 0)
    assert call(project, "plan", "--detailed-exitcode").stdout.count("by others") == 0
