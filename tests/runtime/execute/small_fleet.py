"""The small fleet that most of these tests apply, and what they ask of an outcome."""

from collections.abc import Callable
from datetime import timedelta

from fleet.spec import ClientKey, FleetSpec
from runtime.execute.outcome import ApplyOutcome
from tests.fleet.planning.builders import adapter, device, fleet, host
from tests.runtime.execute.bench import FINGERPRINT, Bench

OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
FAQ = "birch-faq-tiny-v1.0.0"
LAPTOP = host("laptop", device("cpu0"), device("cpu1", port=8101))
DAY = timedelta(days=1)


def declared(*names: str, replicas: int = 1, key: str = "env:KEY") -> FleetSpec:
    adapters = (adapter(each, replicas=replicas) for each in names)
    keys = {"acme": (ClientKey("prod", key, FINGERPRINT),)}
    return fleet(*adapters, hosts=[LAPTOP], known=[OLD, NEW], keys=keys)


def on(text: str, error: BaseException) -> Callable[[int, str], BaseException | None]:
    return lambda _, label: error if text in label else None


def verdicts(outcome: ApplyOutcome) -> dict[str, str]:
    return {step: each.verdict.value for step, each in outcome.results.items()}


def kinds(bench: Bench, step: str) -> list[str]:
    return [
        each.event.kind for each in bench.ledger().read() if each.document().get("step") == step
    ]
