"""Dashboards, read by the types that Grafana generates from its schema."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from plans.compile import grafana

models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
BOARDS = grafana.dashboards()


def unread(written: Any, at: str = "") -> Iterator[str]:
    """Yield the places of a dashboard that Grafana's types do not give back as written."""
    plugins.register_default_plugins()
    read = json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(written)))
    yield from differing(written, read, at)


def differing(written: Any, read: Any, at: str) -> Iterator[str]:
    match written, read:
        case dict(), dict():
            for name, value in written.items():
                yield from differing(value, read.get(name), f"{at}.{name}")
        case list(), list() if len(written) == len(read):
            for place, pair in enumerate(zip(written, read, strict=True)):
                yield from differing(*pair, f"{at}[{place}]")
        case _ if written != read:
            yield at


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_types_know_every_field(name: str) -> None:
    assert [*unread(json.loads(BOARDS[name]))] == []


def test_a_field_that_grafana_does_not_know_is_found() -> None:
    board = json.loads(next(iter(BOARDS.values())))
    target = board["panels"][0]["targets"][0]
    target["expression"] = target.pop("expr")
    board["panels"][1]["gridPos"]["width"] = 12
    assert {*unread(board)} == {
        ".panels[0].targets[0].expression", ".panels[1].gridPos.width",
    }  # fmt: skip
