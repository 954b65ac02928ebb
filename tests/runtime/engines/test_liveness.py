"""A server works where a token comes or its counters move; a list of models proves nothing."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from runtime.engines import observation
from runtime.engines.observation import Liveness, signs_of_life, without_token
from runtime.json_client import JsonClient


class Stub:
    """A server that answers by rules; paths without a rule hang."""

    def __init__(self, **rules: Callable[[], tuple[int, str]]) -> None:
        self.rules = {f"/{name.replace('__', '/')}": rule for name, rule in rules.items()}
        self.asked: list[str] = []

    async def __call__(self, scope: dict[str, Any], _receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        rule = self.rules.get(scope["path"])
        if rule is None:
            await asyncio.Event().wait()
        assert rule is not None
        status, body = rule()
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body.encode()})


def says(status: int, body: str = "{}") -> Callable[[], tuple[int, str]]:
    return lambda: (status, body)


def counts(*values: int) -> Callable[[], tuple[int, str]]:
    left = list(values)
    return lambda: (
        200,
        f'vllm:generation_tokens_total{{a="b"}} {left.pop(0) if len(left) > 1 else left[0]}.0\n',
    )


MODELS = says(200, json.dumps({"data": [{"id": "tiny", "root": "/base", "parent": None}]}))
HEALTHY, DEAD = says(200), says(503)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs hangs for ever, so that a short wait tells as much as a long one."""
    monkeypatch.setattr(observation, "TOKEN_S", 0.05)
    monkeypatch.setattr(observation, "HEALTH_S", 0.05)


@pytest.mark.parametrize(
    ("stub", "found"),
    [
        (Stub(v1__models=MODELS, v1__completions=says(200)), None),
        (Stub(v1__models=MODELS, v1__completions=says(404)), None),
        (Stub(v1__models=MODELS, v1__completions=says(500), health=HEALTHY), None),  # it drains
        (Stub(v1__models=MODELS, v1__completions=says(500), health=DEAD), Liveness(False, None)),
        (Stub(v1__models=MODELS, health=HEALTHY, metrics=counts(7)), Liveness(True, 7)),
        (Stub(v1__models=MODELS, health=DEAD, metrics=counts(7)), Liveness(False, 7)),
        (Stub(v1__models=MODELS, health=HEALTHY, metrics=counts(7, 8)), None),  # it is busy
        (Stub(v1__models=MODELS), Liveness(False, None)),
        (Stub(), Liveness(False, None)),
    ],
)
def test_a_server_that_lists_its_models(stub: Stub, found: Liveness | None) -> None:
    async def scenario() -> Liveness | None:
        async with JsonClient("http://stub", app=stub) as http:
            return await without_token(http)

    assert asyncio.run(scenario()) == found


def test_a_server_that_does_not_answer_is_asked_for_no_token() -> None:
    stub = Stub(health=HEALTHY, metrics=counts(3))

    async def scenario() -> Liveness:
        async with JsonClient("http://stub", app=stub) as http:
            return await signs_of_life(http)

    assert asyncio.run(scenario()) == Liveness(True, 3)
    assert sorted(stub.asked) == ["/health", "/metrics"]
