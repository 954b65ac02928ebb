"""Pages show their facts, the same as JSON, CSV and HTML; nothing in them acts."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.history import EvalFinished, Notified
from runtime.web.app import arranged, csv_of
from runtime.web.sources import CLIENT_PATHS, PATHS
from tests.runtime.web.stage import NEW, SERVER, Viewer, project, reading, viewing

ALL = {**PATHS, **CLIENT_PATHS}
HTMX = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
"""SHA-256 of dist/htmx.min.js of htmx.org 4.0.1."""
NAMES = {"client_account": "acme", "plan": "run1", "server": SERVER}


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    workspace = project(tmp_path_factory.mktemp("web") / "project")
    run = EvalFinished("e1", "acme-support", NEW, "anchor")
    notices = (
        Notified("acme-support", "rollout_started", "client acme", delivered=True, key="k"),
        Notified("birch", "alert", "client birch by mail", detail="refused"),
    )
    with viewing(workspace, reading(workspace, (run, *notices))) as made:
        yield made


def address(page: str) -> str:
    path, _ = ALL[page]
    return path.format(name=NAMES.get(page, "acme-support"), client="acme")


@pytest.mark.parametrize("page", ALL)
def test_each_page_is_html_json_and_csv_of_the_same_facts(viewer: Viewer, page: str) -> None:
    session = viewer.session("acme" if page in CLIENT_PATHS else "")
    path, table = address(page), ALL[page][1]
    html = viewer.http.get(path, headers=session)
    facts = viewer.http.get(f"{path}.json", headers=session).json()
    rows = csv.DictReader(io.StringIO(viewer.http.get(f"{path}.csv", headers=session).text))
    assert html.status_code == 200
    assert len([*rows]) == len(facts[table])
    for row in facts[table]:
        for name in ("alias", "plan", "address"):
            assert str(row.get(name, "")).partition("/")[2] or row.get(name, "") in html.text


@pytest.mark.parametrize("page", ALL)
def test_a_page_has_one_heading_no_inline_script_and_no_style(viewer: Viewer, page: str) -> None:
    session = viewer.session("acme" if page in CLIENT_PATHS else "")
    found = viewer.http.get(address(page), headers=session)
    assert len(re.findall(r"<h1[ >]", found.text)) == 1
    assert not re.search(r"<style|\bstyle=|<script(?! src=)|\bon\w+=|hx-on|js:", found.text)
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', found.text)
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert found.headers["cache-control"] == "no-store"


def test_a_poll_is_answered_only_where_something_is_new(viewer: Viewer) -> None:
    session = viewer.session()
    page = viewer.http.get("/models", headers=session).text
    (poll,) = re.findall(r'hx-get="([^"]*)"', page)
    assert viewer.http.get(poll, headers=session).status_code == 204
    assert viewer.http.get("/models?after=0", headers=session).status_code == 200


def test_the_table_is_filtered_and_sorted_by_the_address(viewer: Viewer) -> None:
    facts = viewer.http.get("/models.json?q=acme&sort=alias&desc=1", headers=viewer.session())
    assert [row["alias"] for row in facts.json()["aliases"]] == ["acme-triage", "acme-support"]


def test_a_server_that_does_not_answer_is_unknown_and_never_free(tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    seen = reading(workspace, silent={SERVER: "timed out"})
    with viewing(workspace, seen) as viewer:
        facts = viewer.http.get("/.json", headers=viewer.session()).json()
    states = {row["state"] for row in facts["aliases"]}
    assert states == {"unknown"}
    assert facts["totals"]["servers_away"] == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM", "\ttab"])
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    assert [*csv.reader(io.StringIO(csv_of([{"a": text}])))][1][0] == f"'{text}"


def test_rows_without_a_value_come_last_in_either_order() -> None:
    rows: list[dict[str, int | None]] = [{"n": 2}, {"n": None}, {"n": 1}]
    assert [row["n"] for row in arranged(rows, {"sort": "n"})] == [1, 2, None]
    assert [row["n"] for row in arranged(rows, {"sort": "n", "desc": "1"})] == [2, 1, None]


def test_no_template_uses_what_the_policy_would_stop_silently() -> None:
    folder = Path(__file__).parents[3] / "plans/templates/dashboard"
    words = ("hx-on", "js:", "javascript:", "every 5s [", " style=", "hx-vals")
    texts = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert [(name, word) for name in texts for word in words if word in texts[name]] == []


def test_the_script_of_others_is_the_published_file() -> None:
    folder = Path(__file__).parents[3] / "runtime/web/static"
    assert hashlib.sha256((folder / "htmx.min.js").read_bytes()).hexdigest() == HTMX
    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE").read_text("utf-8")


def test_the_figures_of_the_last_day_are_those_of_the_cells(viewer: Viewer) -> None:
    facts = viewer.http.get("/usage.json", headers=viewer.session()).json()
    assert (facts["total"]["requests"], facts["total"]["errors"]) == (202, 2)
    assert facts["total"]["p50_s"] == pytest.approx(0.5, rel=0.01)
    assert facts["total"]["p99_s"] == pytest.approx(3.0, rel=0.01)
    assert [hour["requests"] for hour in facts["hours"]] == [0] * 23 + [202]
    assert facts["hours"][0]["p95_s"] is None
    own = viewer.http.get("/c/acme/acme-support.json", headers=viewer.session("acme")).json()
    assert [hour["requests"] for hour in own["hours"]] == [0] * 23 + [101]
    (row,) = [row for row in facts["clients"] if row["client"] == "globe"]
    assert (row["requests"], row["p95_s"]) == (0, None)


def test_the_lines_of_a_month_add_up_to_the_bill_and_a_client_sees_its_invoice_alone(
    viewer: Viewer,
) -> None:
    facts = viewer.http.get("/cost.json", headers=viewer.session()).json()
    assert sum(line["cents"] for line in facts["lines"]) == 5 * 150
    assert "7.50" in viewer.http.get("/cost", headers=viewer.session()).text
    session = viewer.session("acme")
    own = viewer.http.get("/c/acme/invoice.json", headers=session).json()
    assert own["invoice"]["fee_cents"] == 1389  # 5 of 720 hours of 2000.00
    page = viewer.http.get("/c/acme/invoice", headers=session).text
    assert "13.89" in page
    assert "idle" not in page
    assert viewer.http.get("/cost?month=1999-99", headers=viewer.session()).status_code == 200
    none = viewer.http.get("/cost.json?month=2025-01", headers=viewer.session()).json()
    assert (none["report"], "No costs of this month" in none["problem"]) == ({}, True)


def test_an_alert_that_fires_is_counted_and_named_with_its_command(viewer: Viewer) -> None:
    facts = viewer.http.get("/alerts.json", headers=viewer.session()).json()
    assert facts["heading"]["alerts"] == 1
    (alert,) = facts["alerts"]
    page = viewer.http.get("/alerts", headers=viewer.session()).text
    assert alert["text"] in page
    assert re.search("fleetctl -C .+ why birch-units", page)


def test_why_shows_the_changes_around_an_alias_and_its_times(viewer: Viewer) -> None:
    path, session = "/why/acme-support", viewer.session()
    facts = viewer.http.get(f"{path}.json?since=24h", headers=session).json()
    assert (facts["since"], facts["why"]["onset"]) == ("24h", None)
    assert facts["causes"][0]["kind"] == "evaluation"
    page = viewer.http.get(f"{path}?since=24h", headers=session).text
    assert f"an evaluation of {NEW} ran" in page
    assert viewer.http.get(f"{path}.json?since=never", headers=session).json()["since"] == "6h"
    assert viewer.http.get("/why/nothing-here", headers=session).status_code == 404
    assert f'href="{path}"' in viewer.http.get("/models/acme-support", headers=session).text
    assert 'href="/why/birch-units"' in viewer.http.get("/alerts", headers=session).text


def test_clients_have_the_costs_of_the_bill_and_the_health_of_their_aliases(viewer: Viewer) -> None:
    session = viewer.session()
    clients = viewer.http.get("/clients.json", headers=session).json()["clients"]
    rows = {row["client"]: row for row in clients}
    cost = viewer.http.get("/cost.json", headers=session).json()
    for name, row in rows.items():
        lines = [line["cents"] for line in cost["lines"] if line["client"] == name]
        assert (row["cost_cents"] or 0) == sum(lines), name
    acme, birch, globe = rows["acme"], rows["birch"], rows["globe"]
    assert acme["fee_cents"] == 1389  # 5 of 720 hours of 2000.00
    assert acme["of_fee_percent"] == pytest.approx(acme["cost_cents"] / 13.89, abs=0.1)
    assert (acme["requests"], acme["errors"], acme["promises_kept"]) == (101, 1, 0)
    assert (birch["alerts"], globe["alerts"], globe["state"]) == (1, 0, "")
    page = viewer.http.get("/clients", headers=session).text
    assert f"{acme['of_fee_percent']} %" in page
    assert "limit 40 %" in viewer.http.get("/cost", headers=session).text


def test_a_client_has_a_page_with_its_account_its_keys_and_its_notices_alone(
    viewer: Viewer,
) -> None:
    session = viewer.session()
    facts = viewer.http.get("/clients/acme.json", headers=session).json()
    (listed,) = [
        row
        for row in viewer.http.get("/clients.json", headers=session).json()["clients"]
        if row["client"] == "acme"
    ]
    assert facts["account"] == listed
    assert {row["client"] for row in facts["aliases"]} == {"acme"}
    assert sum(line["cents"] for line in facts["lines"]) == listed["cost_cents"]
    (row,) = facts["report"]["tables"][0]["rows"]
    earned, margin, _, state = row[-4:]
    assert float(earned) - float(margin) == pytest.approx(listed["cost_cents"] / 100)
    assert state == listed["state"]
    assert [(key["key"], key["declared"], key["taken"]) for key in facts["keys"]] == [
        (key.name, True, True)
        for key in viewer.pages.workspace.project.fleet().clients["acme"].keys
    ]
    assert [(its["to"], its["event"]) for its in facts["notices"]] == [
        ("client acme", "rollout_started")
    ]
    page = viewer.http.get("/clients/birch", headers=session).text
    assert "not delivered</strong>: refused" in page
    assert 'href="/clients/birch"' in viewer.http.get("/clients", headers=session).text
    assert viewer.http.get("/clients/nothing-here", headers=session).status_code == 404


def test_a_client_sees_its_budget_of_a_month(viewer: Viewer, tmp_path: Path) -> None:
    assert "Budget" not in viewer.http.get("/c/birch", headers=viewer.session("birch")).text
    workspace = project(tmp_path / "project")
    file = workspace.root / "clients" / "birch.yaml"
    budget = "limits: {tokens_per_month: 5000000, requests_per_month: 900, budget: hard}"
    file.write_text(file.read_text("utf-8").replace("birch:\n", f"birch:\n    {budget}\n"), "utf-8")
    with viewing(workspace, reading(workspace)) as made:
        page = made.http.get("/c/birch", headers=made.session("birch")).text
        facts = made.http.get("/c/birch.json", headers=made.session("birch")).json()
    assert "Budget of a month: 5,000,000 tokens and 900 requests; beyond it requests are" in page
    assert (facts["tokens_per_month"], facts["refuses_beyond"]) == (5_000_000, True)


def test_an_operator_sees_a_client_s_pages_as_the_client_does(viewer: Viewer) -> None:
    view = "/clients/acme/view"
    for path in ("", "/invoice", "/acme-support"):
        own = viewer.http.get(f"/c/acme{path}.json", headers=viewer.session("acme"))
        seen = viewer.http.get(f"{view}{path}.json", headers=viewer.session())
        assert (own.status_code, own.text) == (200, seen.text)
        page = viewer.http.get(view + path, headers=viewer.session()).text
        links = re.findall(r'(?:href|hx-get)="(/c[^"]*)"', page)
        assert links
        assert all(link.startswith(view) or link == "/clients/acme" for link in links)
    for path in (f"{view}/birch-units", "/clients/nothing/view"):
        assert viewer.http.get(path, headers=viewer.session()).status_code == 404
