"""A judge compared with people: asked about answers that somebody has labelled."""

import asyncio
from collections.abc import Sequence

from fleet.errors import EvalError
from fleet.evals.labels import Labelled
from fleet.evals.run import Spec
from fleet.evals.scoring import to_judge
from runtime.evals.judge import Bench, bench
from runtime.evals.office import Office
from runtime.evals.protocol import Tell, silent


async def _asked(judge: Bench, each: Labelled) -> bool | None:
    if each.other is not None:
        return await judge.better(each.item, each.answer, each.other)
    (measure,) = to_judge(each.item)
    found = (await judge.scores(each.item, each.answer)).get(measure)
    return None if found is None else found.score == 1.0


async def asked(
    labels: Sequence[Labelled], spec: Spec, office: Office, tell: Tell = silent
) -> list[bool | None]:
    """Return what the judge says of each answer, in order; None: neither YES nor NO.

    Raises:
        EvalError: FC4510 it cannot be reached, or another model answers in its place; FC4511
            none is declared.
    """
    room, done = asyncio.Semaphore(spec.concurrency), 0
    async with bench(spec, office.secret, needed=True) as judge:
        assert judge is not None, "one is needed"

        async def one(each: Labelled) -> bool | None:
            nonlocal done
            async with room:
                said = await _asked(judge, each)
                done += 1
                tell(done, len(labels))
                return said

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(each)) for each in labels]
        except* EvalError as failed:
            raise failed.exceptions[0] from None
    return [each.result() for each in tasks]
