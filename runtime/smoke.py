"""Smoke test: a version is asked directly, on every server that holds it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.errors import EngineError, EngineUnreachableError
from fleet.history import Entry
from fleet.names import AdapterName
from runtime.transport import JsonClient

ANSWER_S = 30.0
MAX_TOKENS = 32


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """How many of the questions were answered well."""

    passed: int
    total: int
    seconds: float
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Servers that cannot be reached, while another holds the version."""

    @property
    def sentence(self) -> str:
        """The outcome in a few words."""
        if self.passed == self.total:
            return f"smoke test passed {self.passed}/{self.total} in {self.seconds:.1f} s"
        return f"smoke test FAILED {self.total - self.passed}/{self.total}: {self.failures[0]}"


async def smoke_test(
    adapter: str,
    urls: Sequence[str],
    inputs: Sequence[str],
    seconds: Callable[[], float] = time.monotonic,
) -> SmokeResult:
    """Ask each server each input; a good answer is not empty and names the version.

    A server that is down fails the test only if no other one answers.
    """
    began = seconds()
    outcomes = await asyncio.gather(*(_on_server(adapter, url, inputs) for url in urls))
    down = [each for each in outcomes if isinstance(each, str)]
    answered = [each for each in outcomes if not isinstance(each, str)]
    flat = [each for outcome in answered for each in outcome]
    took = seconds() - began
    if not answered:
        reasons = tuple(down) or ("no server that holds it has an address",)
        return SmokeResult(0, len(inputs), took, reasons)
    failures = tuple(each for each in flat if each)
    return SmokeResult(len(flat) - len(failures), len(flat), took, failures, tuple(down))


async def _on_server(adapter: str, url: str, inputs: Sequence[str]) -> list[str] | str:
    """Return what is wrong with each answer (empty: nothing), or why none came."""
    async with JsonClient(url, timeout_s=ANSWER_S) as client:
        try:
            return [await _one(client, adapter, each) for each in inputs]
        except EngineUnreachableError as error:
            return error.diagnostics[0].detail


async def _one(client: JsonClient, adapter: str, text: str) -> str:
    body = {
        "model": adapter,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    try:
        reply = await client.post("/v1/chat/completions", body)
    except EngineUnreachableError:
        raise
    except EngineError as error:
        return error.diagnostics[0].detail
    return _fault(reply, adapter, text)


def _fault(reply: Any, adapter: str, text: str) -> str:
    try:
        answered, content = reply["model"], reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return f"{text!r} got an answer of another form"
    if answered != adapter:
        return f"{text!r} was answered by `{answered}`"
    return "" if content and content.strip() else f"{text!r} got an empty answer"


def recorded_inputs(entries: Iterable[Entry], alias: str) -> tuple[str, ...]:
    """Return the inputs with which a version of `alias` was last smoke-tested.

    They stand in the smoke steps of the plans that the ledger holds; empty if there are none.
    """
    for entry in reversed(list(entries)):
        found = _inputs(entry.data, alias)
        if found:
            return found
    return ()


def _inputs(value: Any, alias: str) -> tuple[str, ...]:
    match value:
        case {"verb": "smoke", "adapter": {"adapter": str(name)}, "inputs": [_, *_] as inputs}:
            return tuple(inputs) if _alias(name) == alias else ()
        case Mapping():
            inside = iter(value.values())
        case list() | tuple():
            inside = iter(value)
        case _:
            return ()
    return next((found for each in inside if (found := _inputs(each, alias))), ())


def _alias(adapter: str) -> str:
    try:
        return AdapterName.parse(adapter).alias
    except ValueError:
        return ""
