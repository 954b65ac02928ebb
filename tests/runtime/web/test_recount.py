"""Every number of the pages of usage, models, clients and costs, counted anew from raw rows.

`tests/recount.py` imports nothing of fleetctl; prices, fee and capacity stand below as declared.
"""

import calendar
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.ledger import open_ledger
from runtime.web.usage import read_usage
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import NOON
from tests.recount import figures, read
from tests.runtime.web.stage import SERVER, Viewer, project, reading, viewing

PRICE, CAPACITY, PROMPT = 1_500_000, 1000 * 1_000_000, 250_000
FEES = {"acme": 2000 * 1_000_000, "birch": 1777 * 1_000_000}
OK, LEFT = 200, 499
COUNTED, MONTH, WEEK = 5, 720, 168
"""Hours with recorded terms, of the month, and of a week."""
EARLY, NOVEMBER = 28, 13 * 24 + 12
"""Hours of October and November with recorded terms, where they were recorded earlier."""
ALIASES = {
    "acme-support": "tiny-v2.1.0",
    "acme-triage": "tiny-v1.0.0",
    "birch-units": "tiny-v1.2.0",
}
TIMES = {"p50_s": "latency_p50_s", "p95_s": "latency_p95_s", "p99_s": "latency_p99_s",
         "first_token_p95_s": "first_token_p95_s"}  # fmt: skip
COUNTS = {"requests": "requests", "errors": "errors", "refused": "refused",
          "input_tokens": "input_tokens", "output_tokens": "output_tokens",
          "tokens_unknown": "unknown"}  # fmt: skip


def row(chance: random.Random, number: int, hours: int = 23) -> dict[str, Any]:
    ago = chance.uniform(1, hours * 3600)
    alias, status = (
        chance.choice([*ALIASES]),
        chance.choices([200, 500, 429, 499], [90, 4, 4, 2])[0],
    )
    stream, latency = chance.random() < 0.5, chance.lognormvariate(-1, 1)
    known = ago < (COUNTED + 1) * 3600 or chance.random() < 0.9
    return {
        "time": f"{NOON - timedelta(seconds=ago):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        "request_id": f"{number:032x}", "client": alias.partition("-")[0], "alias": alias,
        "version": "" if status == 429 else f"{alias}-{ALIASES[alias]}",
        "server": "" if status == 429 else SERVER, "path": "/v1/completions", "revision": 1,
        "status": status, "latency_s": latency, "first_byte_s": latency / 3, "stream": stream,
        "input_tokens": chance.randrange(1, 90) if status == 200 and known else None,
        "output_tokens": chance.randrange(1, 30) if status == 200 and known else None,
        "finish": None, "format_ok": None, "purpose": "eval" if number % 11 == 0 else "live",
        "retries": 0, "unit": None, "counted": None, "cached_tokens": None, "waited_s": 0.0,
        "trace_id": None, "digest": f"{number % 3:012x}" if number % 3 else None,
    }  # fmt: skip


def log(workspace: Workspace, rows: list[dict[str, Any]]) -> None:
    """Write rows as a gateway's log, the last one twice and then a torn line."""
    lines = [json.dumps(made) for made in sorted(rows, key=lambda made: made["time"])]
    folder = workspace.state_dir / "gateways/main"
    folder.mkdir(parents=True)
    text = "\n".join([*lines, lines[-1], '{"time": "20'])
    (folder / "usage.jsonl").write_text(f"{text}\n", "utf-8")


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    workspace = project(tmp_path_factory.mktemp("web") / "project")
    chance = random.Random(14)  # noqa: S311 (not for secrets)
    rows = [row(chance, number) for number in range(900)]
    rows += [row(chance, number, WEEK - 1) for number in range(900, 1500)]
    log(workspace, rows)
    seen = replace(reading(workspace), usage=read_usage(workspace.state_dir, NOON))
    assert not seen.usage.problem
    with viewing(workspace, seen) as made:
        yield made


def raw(viewer: Viewer, purpose: str = "live", **fits: str) -> list[dict[str, Any]]:
    """Return the raw rows of a purpose and the last day whose fields begin with texts."""
    found, day = read(viewer.pages.workspace.state_dir), f"{NOON - timedelta(hours=23):%Y-%m-%dT%H}"
    its = [made for made in found if made["purpose"] == purpose and made["time"] >= day]
    return [row for row in its if all(row[name].startswith(text) for name, text in fits.items())]


def facts(viewer: Viewer, path: str, who: str = "") -> Any:
    return viewer.http.get(f"{path}.json", headers=viewer.session(who)).json()


def check(shown: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """Assert that counts are equal, and times within 1 %, wherever the page shows them."""
    counted = figures(rows)
    for name in COUNTS.keys() & shown.keys():
        assert shown[name] == counted[COUNTS[name]], name
    for name in TIMES.keys() & shown.keys():
        exact = counted[TIMES[name]]
        near = exact if exact is None else pytest.approx(exact, rel=0.0101, abs=6e-5)
        assert shown[name] == near, name


def test_usage_is_that_of_the_rows(viewer: Viewer) -> None:
    page = facts(viewer, "/usage")
    assert page["total"]["requests"] > 700
    check(page["total"], raw(viewer))
    for hour in page["hours"]:
        check(hour, raw(viewer, time=hour["hour"][:13]))
    for client in page["clients"]:
        check(client, raw(viewer, client=client["client"]))


def test_the_hours_of_a_week_and_observed_demand_are_those_of_the_rows(viewer: Viewer) -> None:
    page, found = facts(viewer, "/usage"), read(viewer.pages.workspace.state_dir)
    hours, of_alias = Counter[tuple[int, int]](), Counter[tuple[str, str]]()
    for made in found:
        time = datetime.fromisoformat(made["time"])
        if made["purpose"] == "live":
            hours[time.weekday(), time.hour] += 1
            of_alias[made["alias"], made["time"][:13]] += bool(made["version"])
    assert [row["weekday"] for row in page["week"]] == [*calendar.day_name]
    assert sum(sum(row["requests"]) for row in page["week"]) == hours.total() > 1200
    for day, row in enumerate(page["week"]):
        assert row["requests"] == [hours[day, hour] for hour in range(24)]
    assert facts(viewer, "/demand")["demand"][:20] == page["demand"]
    demand = {its["alias"]: its for its in page["demand"]}
    assert ALIASES.keys() < demand.keys()
    for alias, its in demand.items():
        rates = [
            max((n for (a, at), n in of_alias.items() if (a, at[11:]) == (alias, f"{hour:02}")),
                default=0) / 60 for hour in range(24)
        ]  # fmt: skip
        assert its["observed_rpm"] == pytest.approx(rates, abs=6e-5)
        assert its["observed_peak_rpm"] == pytest.approx(max(rates), abs=6e-5)
    units = demand["birch-units"]  # 08-17 in Chicago, under summer and winter time
    assert units["planned_rpm"] == [6.0 if 13 <= hour < 23 else 0.0 for hour in range(24)]
    assert units["of_planned_percent"] == round(units["observed_peak_rpm"] * 100 / 6, 1)
    parts = [its["of_planned_percent"] for its in page["demand"]]
    assert parts == sorted(parts, reverse=True)
    text = viewer.http.get("/usage", headers=viewer.session()).text
    assert f"{units['of_planned_percent']} %" in text
    ((day, hour), most), *_ = hours.most_common(1)
    assert f"{calendar.day_name[day]} {hour:02}: {most}<" in text


def test_models_and_the_pages_of_clients_are_those_of_the_rows(viewer: Viewer) -> None:
    for alias in facts(viewer, "/models")["aliases"]:
        check(alias, raw(viewer, alias=alias["alias"]))
    for alias in ALIASES:
        page, rows = facts(viewer, f"/models/{alias}"), raw(viewer, alias=alias)
        check(page["usage"], rows)
        client = alias.partition("-")[0]
        own = facts(viewer, f"/c/{client}/{alias}", client)
        check(own["alias"], rows)
        for hour in (*page["hours"], *own["hours"]):
            check(hour, raw(viewer, alias=alias, time=hour["hour"][:13]))
        kept = (figures(rows)["latency_p95_s"] or 0) <= (own["alias"]["promise_s"] or 0)
        assert own["alias"]["kept"] in (None, kept)
    for client in facts(viewer, "/clients")["clients"]:
        rows = raw(viewer, client=client["client"])
        check(client, rows)
        page = facts(viewer, f"/clients/{client['client']}")
        check(page["usage"], rows)
        for alias in page["aliases"]:
            check(alias, raw(viewer, alias=alias["alias"]))
        for hour in page["hours"]:
            check(hour, [made for made in rows if made["time"].startswith(hour["hour"][:13])])


def test_the_page_of_a_server_is_that_of_its_rows(viewer: Viewer) -> None:
    page, rows = facts(viewer, f"/servers/{SERVER}"), raw(viewer, server=SERVER)
    assert page["usage"]["requests"] > 600
    check(page["usage"], rows)
    for hour in page["hours"]:
        check(hour, raw(viewer, server=SERVER, time=hour["hour"][:13]))
    for version in page["versions"]:
        check(version, raw(viewer, server=SERVER, version=version["adapter"]))
    last = f"{NOON - timedelta(hours=1):%Y-%m-%dT%H}"
    work = worked([*raw(viewer, time=last), *raw(viewer, "eval", time=last)]).total()
    assert page["busy"] == pytest.approx(work / CAPACITY, abs=5.1e-5)


def size(made: Mapping[str, Any]) -> int:
    """Return the work of a request, in millionths of a decoded token."""
    return int(PROMPT * made["input_tokens"] + 1_000_000 * made["output_tokens"])


def worked(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return the work of an hour by client and line, in millionths of a decoded token."""
    work = Counter[tuple[str, str]]()
    lines = {"live": "serving", "eval": "eval"}
    for alias in ALIASES:
        client = alias.partition("-")[0]
        its = [made for made in rows if (made["alias"], made["server"]) == (alias, SERVER)]
        known = [(made, size(made)) for made in its if made["status"] == OK]
        for made, amount in known:
            work[client, lines[made["purpose"]]] += amount
        for purpose, line in lines.items():
            left = [made for made in its if (made["purpose"], made["status"]) == (purpose, LEFT)]
            if left:  # weigh as the others
                whole = sum(amount for _, amount in known)
                work[client, line] += whole * len(left) // len(known)
    return work


def hour_cost(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return the cost of an hour by client and line in millionths, from its rows and the price."""
    found, work = Counter[tuple[str, str]](), worked(rows)
    found.update({key: PRICE * size // max(work.total(), CAPACITY) for key, size in work.items()})
    idle = PRICE - sum(found.values())
    found["acme", "idle"] += idle - idle // 2  # equal loads: the odd one is the first's
    found["birch", "idle"] += idle // 2
    return found


def costs(viewer: Viewer, hours: int) -> dict[str, Counter[tuple[str, str]]]:
    """Return the cost of the hours before noon, by hour."""
    rows, found = read(viewer.pages.workspace.state_dir), {}
    for ago in range(hours, 0, -1):
        hour = f"{NOON - timedelta(hours=ago):%Y-%m-%dT%H}"
        found[hour] = hour_cost([made for made in rows if made["time"].startswith(hour)])
    return found


def promised(viewer: Viewer, alias: str) -> dict[str, Any]:
    """Return how an alias kept its promise in the counted hours; birch alone has one."""
    found: dict[str, Any] = {"promise_s": None, "hours": None, "hours_kept": None}
    if alias == "birch-units":
        hours = [f"{NOON - timedelta(hours=ago + 1):%Y-%m-%dT%H}" for ago in range(COUNTED)]
        p95 = [figures(raw(viewer, alias=alias, time=hour))["latency_p95_s"] for hour in hours]
        kept = sum(seconds <= 2 for seconds in p95)
        assert 0 < kept < len(p95)
        found = {"promise_s": 2.0, "hours": len(p95), "hours_kept": kept}
    return {"alias": alias, **found}


def test_costs_are_those_of_rows_and_prices_to_the_cent(viewer: Viewer) -> None:
    micro = sum(costs(viewer, COUNTED).values(), Counter[tuple[str, str]]())
    assert micro.total() == COUNTED * PRICE
    cents = {key: amount // 10_000 for key, amount in micro.items()}
    left = COUNTED * PRICE // 10_000 - sum(cents.values())
    for key in sorted(micro, key=lambda key: -(micro[key] % 10_000))[:left]:
        cents[key] += 1
    page = facts(viewer, "/cost")
    shown = {(line["client"], line["line"]): line["cents"] for line in page["lines"]}
    assert shown == {key: amount for key, amount in cents.items() if micro[key]}
    rows = {client["client"]: client for client in facts(viewer, "/clients")["clients"]}
    for share in page["shares"]:
        client = share["client"]
        cost = sum(amount for (name, _), amount in micro.items() if name == client)
        fee = FEES[client] * COUNTED / MONTH
        assert share["of_fee_percent"] == pytest.approx(100 * cost / fee, abs=0.051)
        assert share["fee_cents"] == round(fee / 10_000)
        assert share["cost_cents"] == sum(its for (name, _), its in cents.items() if name == client)
        state = "alarm" if cost / fee > 0.4 else "warning" if cost / fee > 0.3 else "ok"
        assert share["state"] == state
        assert {name: rows[client][name] for name in share} == share
        own = facts(viewer, f"/clients/{client}")["lines"]
        assert own == [line for line in page["lines"] if line["client"] == client]
        invoice = facts(viewer, f"/c/{client}/invoice", client)["invoice"]
        assert invoice["fee_cents"] == share["fee_cents"]
        assert invoice["promises"] == [promised(viewer, name) for name in ALIASES if client in name]
        assert (share["change_cents"], share["change_percent"]) == (None, None)


def test_days_and_the_change_since_last_month_are_those_of_rows_and_prices(tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    (terms,) = [entry.event for entry in workspace.ledger.open().read()]
    first = NOON - timedelta(hours=EARLY + NOVEMBER)
    open_ledger(workspace.state_dir, "r", "me", lambda: first).append([terms])
    chance = random.Random(11)  # noqa: S311 (not for secrets)
    rows = [row(chance, number, EARLY + NOVEMBER - 1) for number in range(1500)]
    log(workspace, [made for made in rows if made["status"] != LEFT and made["input_tokens"]])
    with viewing(workspace, reading(workspace)) as viewer:
        days, months = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for hour, micro in costs(viewer, EARLY + NOVEMBER).items():
            for (client, _), amount in micro.items():
                months[hour[:7], client] += amount
                days[hour[:10], client] += amount
        page = facts(viewer, "/cost")
        shown = {(line["day"], line["client"]): line["micro"] for line in page["days"]}
        assert shown == {key: amount for key, amount in days.items() if key[0] >= "2026-11"}
        clients = {client["client"]: client for client in facts(viewer, "/clients")["clients"]}
        assert len(page["shares"]) == len(FEES)
        for share in page["shares"]:
            then = months["2026-10", share["client"]] * NOVEMBER // EARLY
            moved = months["2026-11", share["client"]] - then
            assert share["change_cents"] == math.floor(moved / 10_000 + 0.5)
            assert share["change_percent"] == pytest.approx(100 * moved / then, abs=0.051)
            assert clients[share["client"]]["change_cents"] == share["change_cents"]
        text = viewer.http.get("/cost", headers=viewer.session()).text
        assert f"({page['shares'][0]['change_percent']:+} %)" in text
