"""Counters of an Envoy reach Prometheus under the names of fleetctl's own gateway."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from runtime.usage.row import to_usage_row
from runtime.workspace import Workspace
from tests.runtime.gateway.envoy_stage import envoy_stage, needs_envoy
from tests.runtime.gateway.stage import NEW, OLD, chat
from tests.runtime.web.stage import project, reading, viewing
from tests.runtime.web.test_scraped import panels, until_answered, watched

pytestmark = [needs_envoy, pytest.mark.long, pytest.mark.prometheus]
SERIES = (
    "fleetctl_requests", "fleetctl_request_seconds", "fleetctl_first_byte", "fleetctl_in_flight",
    "fleetctl_input_tokens", "fleetctl_output_tokens",
)  # fmt: skip
"""Begins of the names of the series that an Envoy has, too."""


def with_envoy(folder: Path) -> Workspace:
    workspace = project(folder)
    file, listen = folder / "fleet.yaml", 'main: {listen: "127.0.0.1:8080"'
    text = file.read_text("utf-8")
    assert listen in text
    file.write_text(text.replace(listen, f"{listen}, kind: envoy"), "utf-8")
    return workspace


def test_panels_and_rules_read_an_envoy_as_any_gateway(tmp_path: Path) -> None:
    workspace = with_envoy(tmp_path / "project")
    with viewing(workspace, reading(workspace)) as viewer:
        token = viewer.token("token")
    asyncio.run(play(workspace, token, tmp_path / "monitoring"))


async def play(workspace: Workspace, token: str, out: Path) -> None:
    answers, users = Counter[str](), iter(range(10**6))
    async with (
        envoy_stage(workspace.root, new=50) as ours,
        watched(workspace, token, out) as api,
        asyncio.timeout(240),
    ):

        async def send() -> None:
            answers[(await ours.send(chat(user=f"u{next(users)}", max_tokens=2))).version] += 1

        queries = panels(out).items()
        asked = {name: query for name, query in queries if any(part in query for part in SERIES)}
        assert len(asked) == 9
        slo = "slo:sli_error:ratio_rate5m"
        asked |= {name: f'{slo}{{sloth_slo="{name}"}}' for name in ("promise", "errors")}
        found = await until_answered(ours.http, api, asked, send)
        for name in ("promise", "errors"):
            (sample,) = found[name]
            assert (sample["metric"]["alias"], sample["value"][1]) == ("acme-support", "0")

        last = {
            version: f'fleetctl_request_seconds_count{{version="{version}"}} == {count}'
            for version, count in answers.items()
        }
        sums = {
            "seconds": "sum(fleetctl_request_seconds_sum)",
            "tokens": "sum(fleetctl_output_tokens_total)",
        }
        await until_answered(ours.http, api, last, lambda: asyncio.sleep(0.1))
        assert set(answers) == {OLD, NEW}
        found = await until_answered(ours.http, api, sums, lambda: asyncio.sleep(0))
        seconds, tokens = (float(found[name][0]["value"][1]) for name in sums)
        rows = [*map(to_usage_row, await ours.ended())]
        assert tokens == sum(row["output_tokens"] for row in rows)
        # An Envoy adds the middles of narrow buckets.
        assert seconds == pytest.approx(sum(row["latency_us"] for row in rows) / 1e6, rel=0.1)
