"""Smoke test: requests answers of a version from every server that holds it, and of its base."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.errors import EngineError, EngineUnreachableError
from fleet.history import Entry, StepStarted
from fleet.names import alias_of
from runtime.engines.vllm_api import answer_text, ask
from runtime.json_client import JsonClient

ANSWER_S = 10.0
"""Upper bound of the time for an answer; all inputs are asked at the same time."""
MAX_TOKENS = 32
MOST_INPUTS = 10
"""Upper bound of the inputs: more prove little more, and a smoke test must be over in seconds."""
BUILT_IN_PROMPT = "Hello"
"""The input where none is declared or recorded; any answer passes that is not empty."""
TRIES = 2
"""Number of times an input is asked before its answer counts as bad."""


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """The result of a smoke test: inputs that were answered well, of all."""

    passed: int
    total: int
    seconds: float
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Servers that cannot be reached, while another holds the version; and what it cannot prove."""
    telling: int | None = None
    """Inputs that the version answers otherwise than its base does; None: not compared."""

    @property
    def sentence(self) -> str:
        """The outcome in a few words."""
        if self.passed != self.total:
            return f"smoke test FAILED {self.total - self.passed}/{self.total}: {self.failures[0]}"
        return f"smoke test passed {self.passed}/{self.total} in {self.seconds:.1f} s"


async def smoke_test(
    adapter: str,
    urls: Sequence[str],
    inputs: Sequence[str],
    seconds: Callable[[], float] = time.monotonic,
) -> SmokeResult:
    """Ask every server every input at once; a good answer is not empty and names the version.

    The base is asked the same, because a server that lost an adapter without a word answers
    like its base: only a question that the two answer differently shows which one it was. A
    server on which none does, while one does on another, fails. A server that is down fails
    the test only if no other one answers. Of the inputs the first `MOST_INPUTS` are asked.
    """
    began = seconds()
    asked = tuple(inputs)[:MOST_INPUTS]
    outcomes = await asyncio.gather(*(_on_server(adapter, url, asked) for url in urls))
    down = tuple(outcome for outcome in outcomes if isinstance(outcome, str))
    answered = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    took = seconds() - began
    if not answered:
        reasons = down or ("no server that holds it has an address",)
        return SmokeResult(0, len(asked), took, reasons)
    compared = [answers.telling for answers in answered if answers.telling is not None]
    faults: list[str] = []
    for answers in answered:
        like = f"{answers.url} answers like the base, under the name {adapter}; others do not"
        alone = answers.telling == 0 and any(compared)
        faults += [fault or (like if alone else "") for fault in answers.faults]
    failures = tuple(text for text in faults if text)
    telling = min(compared, default=None)
    doubts = () if failures or telling else (_doubt(adapter, telling, len(asked)),)
    passed = len(faults) - len(failures)
    return SmokeResult(passed, len(faults), took, failures, (*down, *doubts), telling)


@dataclass(frozen=True, slots=True)
class _SmokeAnswers:
    url: str
    faults: tuple[str, ...]
    """By input: the fault of the answer; empty: none."""
    telling: int | None


def _doubt(adapter: str, telling: int | None, total: int) -> str:
    """Return the doubt that a passed test leaves: did the base answer in the version's name?"""
    inputs = "the 1 input" if total == 1 else f"each of the {total} inputs"
    why = (
        "the base could not be asked"
        if telling is None
        else f"the base gives the same answer to {inputs}"
    )
    return (
        f"{why}, so nothing shows that {adapter} answered and not its base; declare an input "
        "under `smoke` that the two answer differently"
    )


async def _on_server(adapter: str, url: str, inputs: Sequence[str]) -> _SmokeAnswers | str:
    """Return the answers to all inputs, or why no answer came."""
    async with JsonClient(url, timeout_s=ANSWER_S) as client:
        own, others = await asyncio.gather(_all(client, adapter, inputs), _base(client, inputs))
    for reply in own:
        if isinstance(reply, EngineUnreachableError):
            return reply.diagnostics[0].detail
    faults = tuple(_fault(reply, adapter, text) for reply, text in zip(own, inputs, strict=True))
    pairs = [
        (_content(ours), _content(base))
        for ours, base in zip(own, others, strict=False)
        if _content(base)
    ]
    return _SmokeAnswers(url, faults, sum(ours != base for ours, base in pairs) if pairs else None)


async def _base(client: JsonClient, inputs: Sequence[str]) -> list[Any]:
    """Return the answers of the server's base; empty where the server does not name its base."""
    try:
        listed = await client.get("/v1/models")
        name = next(str(model["id"]) for model in listed["data"] if model.get("parent") is None)
    except (EngineError, KeyError, TypeError, AttributeError, StopIteration):
        return []
    return await _all(client, name, inputs)


async def _all(client: JsonClient, model: str, inputs: Sequence[str]) -> list[Any]:
    return await asyncio.gather(*(_ask(client, model, text) for text in inputs))


async def _ask(client: JsonClient, model: str, text: str) -> Any:
    """Return the reply or the error; a bad answer is asked for again."""
    reply: Any = None
    for _ in range(TRIES):
        try:
            reply = await ask(client, model, text, MAX_TOKENS)
        except EngineError as error:
            reply = error
        if isinstance(reply, EngineUnreachableError) or _content(reply):
            break
    return reply


def _content(reply: Any) -> str:
    try:
        return answer_text(reply).strip()
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _fault(reply: Any, adapter: str, text: str) -> str:
    if isinstance(reply, EngineError):
        return reply.diagnostics[0].detail
    answered = reply.get("model") if isinstance(reply, Mapping) else None
    if answered is None:
        return f"{text!r} got an answer of another form"
    if answered != adapter:
        return f"{text!r} was answered by `{answered}`"
    return "" if _content(reply) else f"{text!r} got an empty answer"


def recorded_inputs(entries: Iterable[Entry], alias: str) -> tuple[str, ...]:
    """Return the inputs with which a version of `alias` was last smoke-tested.

    The inputs stand in the smoke steps of the plans that the ledger holds; empty: there are none.
    """
    for entry in reversed(list(entries)):
        match entry.event:
            case StepStarted(
                operation={
                    "verb": "smoke",
                    "adapter": {"adapter": str(name)},
                    "inputs": [_, *_] as inputs,
                }
            ) if alias_of(name) == alias:
                return tuple(inputs)
            case _:
                pass
    return ()
