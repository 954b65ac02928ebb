"""The page of a server shows vLLM's own figures of now; what is not known stays unknown."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.resources import LoadedAdapter
from runtime.web.snapshot import FleetSnapshot
from tests.runtime.engines.test_vllm_metrics import METRICS
from tests.runtime.gateway.live import Served
from tests.runtime.web.stage import NEW, OLD, SERVER, Viewer, project, reading, viewing

FIGURES = {"running": 4, "waiting": 2, "kv_used": 0.25, "prefix_hits": 300, "preemptions": 5}


@contextmanager
def answering(text: str) -> Iterator[str]:
    """Serve a text as `/metrics` and nothing else; empty: nothing at all. Yield the URL."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if text and self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def at(seen: FleetSnapshot, url: str) -> FleetSnapshot:
    """Return the reading with the address of its server, which lists an adapter of others too."""
    alien = LoadedAdapter("mine", SERVER, None)
    live = seen.status.live
    live = replace(live, urls={SERVER: url}, resources={**live.resources, alien.address: alien})
    return replace(seen, status=replace(seen.status, live=live))


def page_of(viewer: Viewer) -> tuple[Any, str]:
    session = viewer.session()
    facts = viewer.http.get(f"/servers/{SERVER}.json", headers=session).json()
    return facts, viewer.http.get(f"/servers/{SERVER}", headers=session).text


def test_a_server_s_own_figures_its_place_and_what_it_holds(tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    with answering(METRICS) as url, viewing(workspace, at(reading(workspace), url)) as viewer:
        facts, page = page_of(viewer)
        for path in ("/", "/models/acme-support"):
            linked = viewer.http.get(path, headers=viewer.session()).text
            assert f'href="/servers/{SERVER}"' in linked
    assert {name: facts["figures"][name] for name in FIGURES} == FIGURES
    assert "33.3 %" in page  # prefix hits of 900
    assert (facts["state"], facts["host"], facts["base"]) == ("up", "laptop", "tiny")
    assert sum(part["bytes"] for part in facts["boxes"][0]["parts"]) > 0
    rows = {row["adapter"]: row for row in facts["versions"]}
    assert (rows[NEW]["percent"], rows[OLD]["percent"]) == (10, 90)
    assert (rows["mine"]["alias"], rows["mine"]["percent"]) == (None, None)
    assert "not of this fleet" in page


@pytest.mark.parametrize("silent", [{}, {SERVER: "timed out"}])
def test_what_a_server_does_not_say_is_unknown_and_never_zero(
    tmp_path: Path, silent: dict[str, str]
) -> None:
    workspace = project(tmp_path / "project")
    seen = reading(workspace, silent=silent)
    with answering("") as url, viewing(workspace, at(seen, url)) as viewer:
        facts, page = page_of(viewer)
        missing = viewer.http.get("/servers/nothing", headers=viewer.session())
    assert set(facts["figures"].values()) == {None, ""}
    assert page.count("<dd><small>unknown") == 6
    assert (facts["state"], facts["detail"]) == (("unknown", "timed out") if silent else ("up", ""))
    assert {row["loaded"] for row in facts["versions"]} == ({None} if silent else {True, False})
    assert missing.status_code == 404


@pytest.mark.live
@pytest.mark.long
def test_every_figure_of_a_real_vllm_is_known(vllm: Served, tmp_path: Path) -> None:
    asked = {"model": NEW, "prompt": "I was charged twice for May. " * 40, "max_tokens": 2}
    for _ in range(2):
        httpx.post(f"{vllm.url}/v1/completions", json=asked, timeout=120).raise_for_status()
    workspace = project(tmp_path / "project")
    with viewing(workspace, at(reading(workspace), vllm.url)) as viewer:
        facts, _ = page_of(viewer)
    figures = facts["figures"]
    assert [name for name in FIGURES if figures[name] is None] == []
    assert 0 < figures["prefix_hits"] < figures["prefix_lookups"]
    assert 0 <= figures["kv_used"] <= 1
    assert figures["kv_tokens"] > 0
