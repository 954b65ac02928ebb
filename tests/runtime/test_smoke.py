"""The smoke test, and what it proves: that the adapter answers and not its base."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.config.checks.clients import MOST
from fleet.evals import EvalTarget
from runtime.evals.context import EngineProbe, probe
from runtime.fake_vllm.weights import FakeWeights
from runtime.smoke import MOST_INPUTS, SmokeResult, smoke_test
from tests.runtime.gateway.stage import NEW, OLD, Replica, replica


async def asked(urls: Sequence[str], *inputs: str) -> SmokeResult:
    return await smoke_test(OLD, urls, inputs)


def like_the_base(ours: Replica) -> None:
    """Make a server answer like its base under the adapter's name."""
    ours.memory.cached[OLD] = FakeWeights(f"/store/{OLD}", f"base {ours.memory.config.model}")


def test_inputs_that_tell_the_adapter_from_its_base_are_counted() -> None:
    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            result = await asked([ours.url], "a", "b", "c")
            assert (result.passed, result.total, result.telling) == (3, 3, 3)
            assert result.warnings == ()
            assert set(ours.models) == {OLD, "tiny"}

    asyncio.run(scenario())


def test_a_test_that_no_input_tells_from_the_base_says_so() -> None:
    async def scenario() -> None:
        async with replica(OLD) as ours:
            like_the_base(ours)
            result = await asked([ours.url], "a", "b")
            assert (result.passed, result.telling) == (2, 0)
            (warning,) = result.warnings
            assert warning.startswith("the base gives the same answer to each of the 2 inputs")

    asyncio.run(scenario())


def test_a_replica_that_fell_back_to_the_base_without_a_word_is_caught() -> None:
    async def scenario() -> None:
        async with replica(OLD) as good, replica(OLD) as fallen:
            like_the_base(fallen)
            result = await asked([good.url, fallen.url], "a", "b")
            assert (result.passed, result.total) == (2, 4)
            assert f"{fallen.url} answers like the base" in result.failures[0]

    asyncio.run(scenario())


@pytest.mark.parametrize("many", [MOST, MOST_INPUTS + 1])
def test_no_more_than_ten_inputs_are_asked(many: int) -> None:
    async def scenario() -> None:
        async with replica(OLD) as ours:
            result = await asked([ours.url], *(f"question {n}" for n in range(many)))
            assert result.total == MOST_INPUTS

    asyncio.run(scenario())


def test_a_version_that_is_not_there_fails_every_input() -> None:
    async def scenario() -> None:
        async with replica(NEW) as ours:
            result = await asked([ours.url], "a", "b")
            assert (result.passed, result.total) == (0, 2)
            assert "does not exist" in result.failures[0]
            nobody = await asked(["http://127.0.0.1:9"], "a")
            assert (nobody.passed, nobody.total) == (0, 1)
            assert "cannot be reached" in nobody.failures[0]

    asyncio.run(scenario())


def test_a_base_without_a_chat_template_is_asked_the_bare_text(tmp_path: Path) -> None:
    """Red before: FAILED 2/2 of a version that answers, and no evaluation could begin (FC4501)."""
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")

    async def scenario() -> None:
        async with replica(OLD) as ours:
            ours.memory.config = replace(ours.memory.config, model=str(tmp_path))
            result = await asked([ours.url], "a", "b")
            assert (result.passed, result.total, result.telling) == (2, 2, 2)
            answered = await probe(EvalTarget(ours.url, OLD, OLD, ""))
            assert answered == EngineProbe(OLD, answered.fingerprint)

    asyncio.run(scenario())
