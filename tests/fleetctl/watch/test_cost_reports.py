"""Bills of months from a ledger and usage logs: recounted, closed, corrected, without strangers."""

import csv
import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from fleet.errors import FleetError
from runtime.operations.watch.costs import month_file
from runtime.operations.watch.traffic_facts import projected_costs
from runtime.usage.log import USAGE_FILE
from runtime.usage.store import UsageStore
from tests.fleetctl.billed import BEGIN, HOURS, at, make_project, report, rows, workspace_at
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.removal import remove_tree


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def test_a_bill_equals_the_recount_of_its_rows_to_the_millionth(project: Project) -> None:
    found = json.loads(report(project, "--format", "json").stdout)
    lines = (project.root / ".fleetctl/gateways/first" / USAGE_FILE).read_text("utf-8").splitlines()
    work: dict[tuple[int, str, str], int] = {}
    for row in map(json.loads, lines):
        hour = int((datetime.fromisoformat(row["time"]) - BEGIN).total_seconds()) // 3600
        key = hour, row["client"], "eval" if row["purpose"] == "eval" else "serving"
        tokens = row["input_tokens"] * 250_000 + row["output_tokens"] * 1_000_000
        work[key] = work.get(key, 0) + tokens
    expected: dict[tuple[str, str], int] = {}
    leased = 0
    for device, names in (("h/0", ("a", "secretive")), ("h/1", ("b",))):
        price = 1_234_567 if device == "h/0" else 700_001
        for hour in range(HOURS):
            leased += price
            its = {
                key: amount for key, amount in work.items() if key[0] == hour and key[1] in names
            }
            whole, used = max(sum(its.values()), 1_000_000_000), 0
            for (_, name, kind), amount in its.items():
                expected[name, kind] = expected.get((name, kind), 0) + price * amount // whole
                used += price * amount // whole
            for place, name in enumerate(names):  # equal loads: the odd millionth is the first's
                part = (price - used + len(names) - 1 - place) // len(names)
                expected[name, "idle"] = expected.get((name, "idle"), 0) + part
    shown: dict[tuple[str, str], int] = {}
    for line in found["lines"]:
        key2 = line["client"], line["kind"]
        shown[key2] = shown.get(key2, 0) + line["micro"]
    assert shown == expected
    assert found["leased"] == found["total"] == leased
    assert sum(line["cents"] for line in found["cents"]) == (leased + 5_000) // 10_000
    assert (found["hours"], found["counted"]) == (HOURS, HOURS)
    amounts = csv.DictReader(report(project, "--format", "csv").stdout.splitlines())
    cents = sum(round(100 * float(row["amount"])) for row in amounts)
    assert cents == found["bill_cents"]


def test_a_report_names_states_and_what_would_bring_a_client_under_the_limit(
    project: Project,
) -> None:
    shown = report(project).stdout
    assert "sum = bill" in shown
    assert "no fee declared" in shown
    assert "b costs more than 40 % of its fee.\n  At this cost, a fee of 1,303.76" in shown
    assert "  b-x-tiny-v1.0.0 on s would save " in shown
    assert " % of the fee: pin it there" in shown
    amounts = csv.DictReader(report(project, "--format", "csv").stdout.splitlines())
    assert {row["reason"] for row in amounts} == {""}
    for form in ("md", "html"):
        assert "no fee declared" in report(project, "--format", form).stdout
    assert "secretive" not in report(project, "--client", "a").stdout
    wrong = call(project, "cost", "report", "--month", "2026-10", "--client", "nobody")
    assert "FC5122" in wrong.stderr


def test_the_projected_cost_of_a_client_is_what_watch_judges(project: Project) -> None:
    shares = {cost.client: cost.share for cost in projected_costs(workspace_at(project, 15 * 24))}
    assert shares["secretive"] is None
    assert shares["b"] is not None
    assert shares["b"] > 0.4
    young = projected_costs(workspace_at(project, 3 * 24))
    assert {cost.share for cost in young} == {None}


def test_an_invoice_shows_a_client_nothing_of_the_operator_or_of_others(project: Project) -> None:
    for form in ("text", "md", "csv", "json", "html"):
        done = call(project, "cost", "invoice", "a", "--month", "2026-10", "--format", form)
        assert done.returncode == 0, done.stderr
        text = done.stdout.partition("</style>")[2] or done.stdout
        for word in ("secretive", "margin", "idle", "h/0", "1.234567", "b-x"):
            assert word not in text
        assert "2000" in done.stdout.replace(",", "")


def test_an_hour_is_explained_and_adds_up(project: Project) -> None:
    done = call(project, "cost", "explain", "a/2026-10-03T15/h/0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("h/0, 2026-10-03 15:00 UTC: 1.234567 EUR leased.\ns: 1.234567 of")
    assert "50.0 % of idle time is its, by `reserved`." in done.stdout
    wrong = call(project, "cost", "explain", "nobody/2026-10-03T15/h/0")
    assert "FC5122" in wrong.stderr
    wrong = call(project, "cost", "explain", "a/2026-10-03T15/h/9")
    assert "FC6088" in wrong.stderr


def test_a_closed_month_keeps_its_bytes_and_late_rows_become_corrections(project: Project) -> None:
    with pytest.raises(FleetError, match="Month cannot be closed"):
        at(project, HOURS - 1).close("2026-10")
    with pytest.raises(FleetError, match="Month cannot be closed"):
        at(project, 2 * HOURS).close("2026-11")
    path, closed = at(project, HOURS + 1).close("2026-10")
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == closed.sha256
    assert month_file(at(project, HOURS + 2).compute("2026-10")) == content
    assert at(project, HOURS + 2).close("2026-10") == (path, closed)
    rows(project.root / ".fleetctl", "late", range(3, 9000, 3))  # all of a
    bills = at(project, HOURS + 100)
    assert month_file(bills.bill("2026-10").cost) == path.read_bytes() == content
    moved = [line for line in bills.bill("2026-11").cost.lines if line.kind == "correction"]
    assert {line.reason for line in moved} == {"2026-10"}
    assert {line.client: line.micro > 0 for line in moved} == {"a": True, "secretive": False}
    assert sum(line.micro for line in moved) == 0
    at(project, 2 * HOURS).close("2026-11")
    later = at(project, 2 * HOURS + 50).bill("2026-12").cost
    assert [line for line in later.lines if line.kind == "correction"] == []
    path.chmod(0o600)
    path.write_bytes(content.replace(b"2026-10", b"2026-99"))
    with pytest.raises(FleetError, match="Closed month was changed"):
        bills.bill("2026-10")


def test_in_the_first_hour_the_error_leads_to_the_plan(project: Project) -> None:
    costs = at(project, 10)
    for hours, command in ((0.5, "fleetctl plan"), (1.5, "fleetctl cost report --month 2026-10")):
        costs.now = BEGIN + timedelta(hours=hours)
        with pytest.raises(FleetError) as caught:
            costs.compute("2025-01")
        assert caught.value.diagnostics[0].command == command


def test_hours_that_were_not_read_are_the_platforms(project: Project) -> None:
    at(project, 10)
    state = project.root / ".fleetctl"
    late = at(project, 10)
    late.now = BEGIN + timedelta(hours=20)
    cost = late.compute("2026-10")
    unknown = [line for line in cost.lines if line.kind == "not attributed"]
    assert sum(line.micro for line in unknown) == 10 * (1_234_567 + 700_001)
    assert cost.counted == 20
    assert (state / "usage").is_dir()


def test_staff_hours_are_imported_by_month_and_bad_lines_import_nothing(project: Project) -> None:
    hours = project.root / "hours.csv"
    hours.write_text("date,client,hours\n2026-10-02,a,1.5\n2026-10-09,a,2\n", "utf-8")
    done = call(project, "cost", "staff", "import", str(hours))
    assert done.stdout == "2026-10: 3.5 hours for a\n"
    hours.write_text("date,client,hours\n2026-10-02,a,1\n2026-10-02,zed,1\n", "utf-8")
    wrong = call(project, "cost", "staff", "import", str(hours))
    assert "line 3: client `zed` is not declared" in " ".join(wrong.stderr.split())
    for bad in ("date,client\n2026-10-02,a\n", "date,client,hours\n2026-10-02,a,nan\n"):
        hours.write_text(bad, "utf-8")
        assert "FC6087" in call(project, "cost", "staff", "import", str(hours)).stderr


def test_without_recorded_terms_the_command_says_how_to_begin(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("fleet: lab\n", "utf-8")
    done = call(Project(tmp_path, ()), "cost", "report")
    assert "FC6083" in done.stderr


def test_a_backup_brings_back_closed_months_and_the_usage_store(
    project: Project, tmp_path: Path
) -> None:
    at(project, HOURS + 1).close("2026-10")
    whole = report(project, "--format", "json").stdout
    state, backup = project.root / ".fleetctl", str(tmp_path / "fleet.tar.gz")
    store, stop = state / "usage/usage.sqlite", Event()

    def write() -> None:  # as an ingestion that runs meanwhile
        with closing(sqlite3.connect(store, isolation_level=None)) as database:
            while not stop.is_set():
                database.execute("UPDATE ingested SET time = time")
                stop.wait(0.01)

    writer = Thread(target=write)
    writer.start()
    try:
        done = call(project, "state", "backup", backup)
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    assert '"complete": true' in call(project, "state", "drill", "--format", "json").stdout
    remove_tree(state)
    (state / "usage").mkdir(0o700, parents=True)
    Path(f"{store}-wal").write_bytes(b"of a store that was lost")
    assert call(project, "state", "restore", backup).returncode == 0
    assert report(project, "--format", "json").stdout == whole
    assert at(project, HOURS).compute("2026-10").clients["a"].requests > 0
    rows(state, "late", range(3, 6))
    assert call(project, "usage", "ingest").returncode == 0
    with UsageStore(state) as found:
        before = [gateway.rows for gateway in found.gateways()]
    again = call(project, "state", "restore", backup)
    assert "usage/usage.sqlite" in again.stderr  # of the logs here: it stays
    with UsageStore(state) as found:
        assert [gateway.rows for gateway in found.gateways()] == before
    (state / "costs/2026-10.json").unlink()
    assert call(project, "state", "backup", backup, "--force").returncode == 0
    drilled = call(project, "state", "drill", "--format", "json")
    (failure,) = json.loads(drilled.stdout)["failures"]
    assert (drilled.returncode, "2026-10.json` cannot be read" in failure) == (1, True)
