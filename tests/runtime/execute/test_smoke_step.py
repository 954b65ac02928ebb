"""The smoke test before traffic: an adapter that answers like its base gets none."""

import asyncio

from fleet.spec import FleetSpec
from runtime.execute.outcome import ApplyOutcome
from tests.fleet.planning.builders import adapter, fleet
from tests.runtime.execute.bench import LIKE_ITS_BASE, Bench
from tests.runtime.execute.small_fleet import LAPTOP, NEW, OLD, verdicts

SMOKE, ROUTE = f"smoke adapter/{OLD}@tiny-laptop-cpu0", "set route/acme-support"


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
