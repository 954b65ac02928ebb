"""The smoke test before traffic: an adapter that answers like its base gets none."""

import asyncio
from dataclasses import replace
from typing import Any

from fleet.errors import EngineRejectedError, problem
from fleet.plan import Plan
from fleet.spec import FleetSpec
from fleet.steps import LoadAdapter
from fleetctl.catalogue import entries
from runtime.engines.protocol import Completion
from runtime.execute.outcome import ApplyOutcome
from tests.fleet.planning.builders import adapter, fleet
from tests.runtime.execute.bench import LIKE_ITS_BASE, Bench, MemoryEngine
from tests.runtime.execute.small_fleet import LAPTOP, NEW, OLD, verdicts

LOAD, SMOKE = (f"{verb} adapter/{OLD}@tiny-laptop-cpu0" for verb in ("load", "smoke"))
ROUTE = "set route/acme-support"


def asked(*inputs: str, version: str = OLD) -> FleetSpec:
    return fleet(adapter(version, smoke=inputs), hosts=[LAPTOP], known=[OLD, NEW])


def told(outcome: ApplyOutcome, step: str = SMOKE) -> list[tuple[str, str, str]]:
    return [(each.code, each.severity, each.detail) for each in outcome.results[step].diagnostics]


def test_one_input_of_many_that_tells_the_adapter_from_its_base_is_enough(bench: Bench) -> None:
    outcome = asyncio.run(bench.apply(asked(LIKE_ITS_BASE, LIKE_ITS_BASE, "hello")))
    assert (outcome.exit_code, told(outcome)) == (0, [])


def test_a_new_version_that_answers_every_input_like_its_base_gets_no_traffic(
    bench: Bench,
) -> None:
    outcome = asyncio.run(bench.apply(asked(LIKE_ITS_BASE, LIKE_ITS_BASE)))
    assert outcome.exit_code == 4
    found = verdicts(outcome)
    assert (found[SMOKE], found[ROUTE]) == ("failed", "blocked")
    ((code, severity, detail),) = told(outcome)
    assert (code, severity) == ("FC5151", "error")
    assert "answers each of the 2 inputs as its base does" in detail
    assert asyncio.run(bench.apply(asked("hello"))).exit_code == 0  # with a better input


def test_a_version_with_traffic_is_put_back_and_the_doubt_is_told(bench: Bench) -> None:
    asyncio.run(bench.apply(asked("hello")))
    bench.server("tiny-laptop-cpu0").lose("tiny-laptop-cpu0")
    again = asyncio.run(bench.apply(asked(LIKE_ITS_BASE)))
    assert (again.exit_code, verdicts(again)[SMOKE]) == (0, "done")
    ((code, severity, detail),) = told(again)
    assert (code, severity) == ("FC5151", "warning")
    assert detail.endswith("It has traffic already and keeps it.")
    ended = [each.data for each in bench.events if each.type == "step_done"]
    assert [each["warnings"] for each in ended if each["step"] == SMOKE] == [[], [detail]]


def test_of_more_than_ten_inputs_the_first_ten_are_asked(bench: Bench) -> None:
    with bench.faults(lambda _number, _label: None):
        asyncio.run(bench.apply(asked(*(f"question {n}" for n in range(12)))))
    assert bench.passed.count(f"ask {OLD}@tiny-laptop-cpu0") == 10
    assert bench.passed.count("ask tiny@tiny-laptop-cpu0") == 1  # until one tells them apart


def failed(bench: Bench, step: str, plan: Plan | None = None) -> tuple[str, str]:
    """Return code and text of the step that fails, and keep the route from being set."""
    outcome = asyncio.run(bench.apply(asked("hello"), plan=plan))
    found = verdicts(outcome)
    assert (outcome.exit_code, found[step], found[ROUTE]) == (4, "failed", "blocked")
    ((code, severity, detail),) = told(outcome, step)
    assert severity == "error"
    return code, detail


def example(code: str) -> tuple[str, str]:
    return code, entries()[code].example


class Refusing(MemoryEngine):
    """Refuses every question, as vLLM does where a chat template refuses a role."""

    async def complete(self, *_: object, **__: object) -> Completion:
        raise EngineRejectedError(problem("FC4003", "A request was refused", "400: no"), status=400)


def test_a_version_whose_server_refuses_the_question_gets_no_traffic(bench: Bench) -> None:
    """Red before: the error named no way on."""
    bench.engines["laptop"] = Refusing("laptop", bench.engines["laptop"].trap, bench.gateways)
    outcome = asyncio.run(bench.apply(asked("hello")))
    assert (outcome.exit_code, verdicts(outcome)[ROUTE]) == (4, "blocked")
    (refusal,) = outcome.results[SMOKE].diagnostics
    assert (refusal.code, refusal.detail) == ("FC4003", "400: no")
    assert refusal.hint == "The route stays as it is, and the next apply asks again."
    assert refusal.command == "fleetctl server logs tiny-laptop-cpu0"


class Stuck(MemoryEngine):
    """Never ends a load."""

    async def load(self, *_: str) -> None:
        await asyncio.Event().wait()


def test_a_version_that_answers_nothing_gets_no_traffic(bench: Bench) -> None:
    bench.engines["laptop"].mute.add(OLD)
    assert failed(bench, SMOKE) == example("FC5113")


def test_a_load_that_does_not_end_fails_when_its_time_is_over(bench: Bench) -> None:
    plan = asyncio.run(bench.plan(asked("hello")))
    bench.engines["laptop"] = Stuck("laptop", bench.engines["laptop"].trap, bench.gateways)
    assert failed(bench, LOAD, altered(plan, timeout_s=1)) == example("FC5112")


def test_a_version_without_a_digest_in_the_plan_is_not_loaded(bench: Bench) -> None:
    plan = asyncio.run(bench.plan(asked("hello")))
    (operation,) = (step.operation for step in plan.steps if step.id == LOAD)
    assert isinstance(operation, LoadAdapter)
    bare = LoadAdapter(replace(operation.adapter, digest=None))
    assert failed(bench, LOAD, altered(plan, operation=bare)) == example("FC5116")


def altered(plan: Plan, **changes: Any) -> Plan:
    """Return the plan with another step that loads the version."""
    steps = (replace(step, **changes) if step.id == LOAD else step for step in plan.steps)
    return replace(plan, steps=(*steps,))
