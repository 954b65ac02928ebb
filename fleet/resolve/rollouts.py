"""Rollouts, gates and overrides as the planner reads them."""

from collections.abc import Iterator
from dataclasses import replace

from fleet import conditions
from fleet import declarations as yaml
from fleet.crosscheck import Facts


def rollouts(given: yaml.Declarations, facts: Facts) -> Iterator[tuple[str, conditions.Rollout]]:
    """Yield the rollouts by name, with the one that exists undeclared."""
    for name, each in {"standard": yaml.Rollout(), **given.rollouts}.items():
        closed = sorted({*each.no_promote}, key=lambda its: (its.begins, its.ends, its.text))
        yield (
            name,
            conditions.Rollout(
                name,
                each.weights,
                each.bake,
                each.retain,
                _once(each.gates),
                max_bake=each.max_bake,
                no_promote=tuple(closed),
                offsets=facts.zones.get(each.timezone) or (0,),
                when_unsure=each.when_unsure,
                low_traffic=each.low_traffic,
                drill=each.drill,
            ),
        )


def gate(name: str, each: yaml.Gate) -> conditions.Gate:
    """Resolve a gate."""
    usual = conditions.Gate(name, each.metric, each.max.number, each.max.unit, each.golden)
    return replace(
        usual,
        score=each.score,
        samples=each.samples or usual.samples,
        floor=None if each.floor is None else each.floor / 100,
        tolerate=each.tolerate.number if each.tolerate else usual.tolerate,
        min_requests=each.min_requests or usual.min_requests,
        false_alarm=each.false_alarm / 100 if each.false_alarm else usual.false_alarm,
    )


def _once(gates: tuple[str, ...]) -> tuple[str, ...]:
    """Return gates by name, each once: all of them must pass, whichever is listed first."""
    return tuple(sorted({*gates}))


def override(name: str, each: yaml.Override) -> conditions.Override:
    """Resolve an override."""
    return conditions.Override(
        name, each.accept, each.alias, _once(each.gates), each.reason, each.by, each.until
    )
