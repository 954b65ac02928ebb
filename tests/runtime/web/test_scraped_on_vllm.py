"""Counters of a real vLLM reach Prometheus by the addresses that the dashboard gives it."""

import asyncio
from pathlib import Path

import pytest

from tests.runtime.gateway.live import TEXTS, Served, in_front
from tests.runtime.gateway.stage import Stage, chat
from tests.runtime.web.stage import SERVER, project, reading, viewing
from tests.runtime.web.test_scraped import panels, until_answered, watched

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.prometheus]
LONG = " ".join(TEXTS * 12)
"""Longer than a block of the KV cache: asked twice, a part of it is cached."""


def test_every_panel_on_vllm_has_an_answer_of_the_server(vllm: Served, tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    with viewing(workspace, reading(workspace)) as viewer:
        token = viewer.token("token")

    async def scenario(ours: Stage) -> None:
        out = tmp_path / "monitoring"
        async with watched(workspace, token, out) as api, asyncio.timeout(240):
            asked = {name: query for name, query in panels(out).items() if "vllm:" in query}
            assert len(asked) == 9
            asked |= {"up": 'up{job="vllm"}', "hits": "vllm:prefix_cache_hits_total > 0"}
            body = chat(text=LONG, max_tokens=3)
            found = await until_answered(ours.http, api, asked, lambda: ours.send(body))
            assert {s["metric"]["server"] for its in found.values() for s in its} == {SERVER}
            assert [sample["value"][1] for sample in found["up"]] == ["1"]

    in_front(vllm, workspace.state_dir, scenario)
