"""Two versions' answers held against each other by a judge, item by item."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from fleet.errors import EvalError
from fleet.evals.golden import GoldenSet
from fleet.evals.items import ACCURACY
from fleet.evals.run import EvalRun, Sample, Spec
from fleet.evals.scoring import in_pairs
from runtime.evals.judge import bench
from runtime.evals.office import Office

_SCORES: Mapping[bool | None, tuple[float, float]] = {
    None: (1.0, 1.0), True: (1.0, 0.0), False: (0.0, 1.0),
}  # fmt: skip
"""Of the old and the new version: a tie, the old one better, the new one better."""


async def contested(
    stable: EvalRun, canary: EvalRun, golden: GoldenSet, spec: Spec, office: Office
) -> tuple[EvalRun, EvalRun]:
    """Return both runs with the accuracy that a comparison in pairs gives; both are kept.

    The winner has 1 and the loser 0, both have 1 in a tie: what a paired test needs, and no
    share of right answers. An empty answer has lost before anybody is asked.

    Raises:
        EvalError: FC4510, the judge does not answer; FC4511, none is declared.
    """
    others = {(each.item, each.sample): each for each in canary.samples}
    pairs = [
        (each, others[each.item, each.sample])
        for each in stable.samples
        if in_pairs(golden.by_id[each.item]) and (each.item, each.sample) in others
        if not each.error and not others[each.item, each.sample].error
    ]
    room = asyncio.Semaphore(spec.concurrency)
    async with bench(spec, office.secret, needed=True) as judge:
        assert judge is not None, "one is needed"

        async def one(old: Sample, new: Sample) -> bool | None:
            given = bool(old.answer.strip()), bool(new.answer.strip())
            if old.answer == new.answer or not all(given):
                return None if given[0] is given[1] else given[0]
            async with room:
                return await judge.better(golden.by_id[old.item], old.answer, new.answer)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(*each)) for each in pairs]
        except* EvalError as failed:
            raise failed.exceptions[0] from None
    said = {
        (old.item, old.sample): task.result() for (old, _), task in zip(pairs, tasks, strict=True)
    }
    return _scored(stable, said, office, 0), _scored(canary, said, office, 1)


def _scored(
    run: EvalRun, said: Mapping[tuple[str, int], bool | None], office: Office, arm: int
) -> EvalRun:
    """Return a run of its own, so that nobody takes these scores for those of one version."""
    samples = tuple(
        _of_pair(each, _SCORES[said[each.item, each.sample]][arm])
        if (each.item, each.sample) in said
        else each
        for each in run.samples
    )
    made = replace(run, id=office.new_id(), samples=samples, cached=True)
    office.store.keep(made)
    return made


def _of_pair(sample: Sample, score: float) -> Sample:
    note = "" if score else "accuracy: the other version's answer is better"
    return replace(sample, scores={**sample.scores, ACCURACY: score}, note=note)
