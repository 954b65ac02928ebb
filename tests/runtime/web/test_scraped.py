"""Prometheus reads the dashboard, the gateways and the servers through what `compile` wrote."""

import asyncio
import json
import re
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import uvicorn
from click.testing import CliRunner

from fleet.history import EvalFinished
from fleet.plan import LossOutlook
from fleet.spec import GatewayKind, GatewaySpec
from fleet.traffic import TrafficPolicy
from fleet.usage import Operator
from fleetctl.cli import main_group
from fleetctl.commands.dashboard import make_dashboard
from plans.compile.prometheus import CONFIG_FILE, RULES_FILE, TOKEN_FILE
from runtime.web.scraped import exposition
from runtime.web.snapshot import SnapshotReader
from runtime.workspace import Workspace
from tests.ports import free_port
from tests.reference.metrics import labels_of, of_fleet
from tests.runtime.gateway.stage import LASTING, chat, long, stage
from tests.runtime.web.stage import (
    NEW,
    SERVER,
    Viewer,
    project,
    reading,
    viewing,
)

EVALUATED = EvalFinished(
    run="e1", alias="acme-support", adapter=NEW, purpose="gate",
    summary={"valid": True, "accuracy": 0.9},
)  # fmt: skip
ABSENT = {
    # The fake engine has no such counters.
    "Prompts in the cache", "First token, p95",
}  # fmt: skip
YOUNG = "fleetctl_projected_cost_share"
"""A projection needs seven days of the month."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return project(tmp_path_factory.mktemp("web") / "project")


@pytest.fixture(scope="module")
def viewer(workspace: Workspace) -> Iterator[Viewer]:
    with viewing(workspace, reading(workspace, (EVALUATED,))) as made:
        yield made


@pytest.mark.parametrize(
    ("declared", "routed", "kind", "bound"),
    [
        (12.0, 12.0, "fleetctl", "12.0"),
        (12.0, None, "fleetctl", "10.0"),  # not applied yet
        (15.0, 12.0, "fleetctl", "12.0"),
        (8.0, 12.0, "fleetctl", "5.0"),
        (2.0, None, "fleetctl", "2.0"),
        (0.001, None, "fleetctl", "0.005"),
        (12.0, 12.0, "envoy", "10.0"),
    ],
)
def test_a_promise_counts_as_kept_at_its_own_bound_once_gateways_have_that(
    workspace: Workspace, declared: float, routed: float | None, kind: GatewayKind, bound: str
) -> None:
    seen, name = reading(workspace), "acme-support"
    spec = replace(seen.fleet.adapters[name], slo_s=declared)
    route = replace(seen.routes[name], policy=TrafficPolicy(promise_s=routed) if routed else None)
    fleet = replace(
        seen.fleet,
        adapters={**seen.fleet.adapters, name: spec},
        gateways={"main": GatewaySpec("main", "127.0.0.1:0", "", kind=kind)},
    )
    seen = replace(seen, fleet=fleet, routes={**seen.routes, name: route})
    labels = f'client="acme",alias="{name}",le="{bound}"'
    line = f"fleetctl_promise_seconds{{{labels}}} {declared}"
    assert line in exposition(seen, Operator(), None, None).splitlines()


@pytest.mark.parametrize(("kept", "value"), [("yes", "1"), ("no", "0"), ("", "")])
def test_the_loss_of_a_device_is_a_series_where_its_outcome_is_known(
    workspace: Workspace, kept: str, value: str
) -> None:
    seen = replace(reading(workspace), loss=LossOutlook({"yes": True, "no": False}.get(kept)))
    name = "fleetctl_survives_device_loss"
    lines = [
        line
        for line in exposition(seen, Operator(), None, None).splitlines()
        if line.startswith(name)
    ]
    assert lines == ([f"{name}{{}} {value}"] if value else [])


def test_figures_of_the_fleet_are_exposed_once(viewer: Viewer) -> None:
    text = viewer.http.get("/metrics", headers=viewer.bearer()).text
    listed = of_fleet()
    assert [n for n, labels in labels_of(text).items() if {*labels} - {*listed[n]}] == []
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert [name for name, count in Counter(samples).items() if count > 1] == []
    for line in (
        'fleetctl_alert{rule="slow",subject="birch-units",severity="page"} 1',
        'fleetctl_promise_seconds{client="acme",alias="acme-support",le="2.0"} 2.0',
        f'fleetctl_version_percent{{client="acme",alias="acme-support",version="{NEW}"}} 10',
        'fleetctl_eval_accuracy{client="acme",alias="acme-support"} 0.9',
        'fleetctl_fee{client="acme",currency="EUR"} 2000.0',
        "fleetctl_drift_causes{} 0",
    ):
        assert line in text.splitlines()
    costs = re.findall(r"fleetctl_cost\{[^}]*\} (\S+)", text)
    assert sum(map(float, costs)) == pytest.approx(1.5 * 5)
    assert f'fleetctl_slots{{server="{SERVER}",state="free"}}' in text


def test_a_gateway_that_does_not_run_is_an_error_and_an_unknown_is_nothing(viewer: Viewer) -> None:
    known = viewer.http.get("/metrics/main", headers=viewer.bearer())
    assert (known.status_code, known.headers["content-type"][:10]) == (503, "text/plain")
    assert viewer.http.get("/metrics/other", headers=viewer.bearer()).status_code == 404
    targets = viewer.http.get("/targets/gateways", headers=viewer.bearer()).json()
    labels = {"gateway": "main", "__metrics_path__": "/metrics/main"}
    assert targets == [{"targets": ["127.0.0.1:8090"], "labels": labels}]
    assert viewer.http.get("/targets/servers", headers=viewer.bearer()).json() == []


def compiled(workspace: Workspace, out: Path, url: str) -> None:
    """Write the files of all three programs; Prometheus looks every second."""
    for target in ("prometheus", "grafana"):
        arguments = ["-C", str(workspace.root), "--env", "fake", "compile", "--target", target]
        arguments += ["--out", str(out), *(["--url", url] if target == "prometheus" else [])]
        done = CliRunner().invoke(main_group, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    config = json.loads((out / CONFIG_FILE).read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (out / CONFIG_FILE).write_text(json.dumps(config))


@asynccontextmanager
async def watched(workspace: Workspace, token: str, out: Path) -> AsyncIterator[str]:
    """Run the dashboard and a Prometheus; yield the address of the latter."""
    listen = f"127.0.0.1:{free_port()}"
    seen = reading(workspace, (EVALUATED,))
    pages = make_dashboard(workspace, SnapshotReader(lambda _: seen), listen)
    listener = socket.create_server(("127.0.0.1", int(listen.rpartition(":")[2])))
    server = uvicorn.Server(uvicorn.Config(pages.application(), log_level="error", ws="none"))
    running = asyncio.create_task(server.serve([listener]))
    compiled(workspace, out, f"http://{listen}")
    (out / TOKEN_FILE).write_text(token)
    address = f"127.0.0.1:{free_port()}"
    prometheus = subprocess.Popen(  # noqa: ASYNC220 (starts at once)
        ["prometheus", f"--config.file={out / CONFIG_FILE}", f"--storage.tsdb.path={out / 'data'}",
         f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL, stderr=(out / "log").open("wb"),
    )  # fmt: skip
    try:
        yield f"http://{address}/api/v1/"
    finally:
        prometheus.terminate()
        prometheus.wait()
        server.should_exit = True
        await running


def panels(out: Path) -> dict[str, str]:
    """Return the queries of all dashboards, by board, panel and place."""
    found = {}
    for name in ("fleet", "client", "server", "cost"):
        for panel in json.loads((out / f"grafana-{name}.json").read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "15s")
                query = re.sub(r"\$(client|alias|server)\b", ".*", query)
                found[f"{name}: {panel['title']}: {target['refId']}"] = query
    return found


Samples = list[dict[str, Any]]


async def until_answered(
    http: aiohttp.ClientSession,
    api: str,
    wanted: dict[str, str],
    send: Callable[[], Awaitable[object]],
    absent: Collection[str] = (),
) -> dict[str, Samples]:
    """Ask Prometheus until all queries but the absent have an answer, with a request in between."""
    found: dict[str, Samples] = {}
    while not wanted.keys() - absent <= found.keys():
        await send()
        for name, query in wanted.items():
            try:
                async with http.get(f"{api}query?query={quote(query)}") as reply:
                    answer = await reply.json()
            except aiohttp.ClientError:  # Prometheus starts: no connection, or a 503
                await asyncio.sleep(0.1)
                break
            assert answer["status"] == "success", (name, answer)
            # A quotient of two that do not grow is no number.
            if samples := [s for s in answer["data"]["result"] if s["value"][1] != "NaN"]:
                found[name] = samples
    return found


@pytest.mark.long
@pytest.mark.prometheus
def test_every_panel_has_an_answer_from_a_prometheus_that_scraped_a_gateway(
    workspace: Workspace, viewer: Viewer, tmp_path: Path
) -> None:
    asyncio.run(ask_all_panels(workspace, viewer.token("token"), tmp_path))


async def ask_all_panels(workspace: Workspace, token: str, tmp_path: Path) -> None:
    async with (
        stage(workspace.state_dir, new=10, token_seconds=0.01) as ours,
        watched(workspace, token, tmp_path) as api,
        aiohttp.ClientSession() as http,
        asyncio.timeout(240),
    ):
        lasting = asyncio.create_task(ours.send(long(LASTING)))
        scrapes = "count(max_over_time(up[5m]) == 1) == 3"  # a busy machine misses some
        wanted = {"all: scrapes: A": scrapes, **panels(tmp_path)}
        absent = {
            name
            for name, query in wanted.items()
            if name.split(": ")[1] in ABSENT or YOUNG in query
        }
        await until_answered(http, api, wanted, lambda: ours.send(chat(max_tokens=3)), absent)
        async with http.get(f"{api}rules") as reply:
            groups = (await reply.json())["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule for rule in rules if rule["health"] == "err"] == []
        assert len(rules) == len(
            [
                r
                for g in json.loads((tmp_path / RULES_FILE).read_text())["groups"]
                for r in g["rules"]
            ]
        )
        for variable in ("client", "alias"):
            async with http.get(f"{api}label/{variable}/values") as reply:
                assert (await reply.json())["data"]
        lasting.cancel()
