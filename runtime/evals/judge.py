"""The LLM judge: scores answers, compares two answers, and is compared with human labels.

The judge is a model at another endpoint, asked at temperature 0. An answer that is neither YES nor
NO (in a comparison: A nor B) is no score: the item counts as missing, never as right.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fleet.errors import EngineError, EvalError, problem
from fleet.evals import (
    ACCURACY,
    GROUNDED,
    EvalRun,
    EvalSpec,
    GoldenItem,
    GoldenSet,
    JudgeSettings,
    LabelledAnswer,
    Sample,
    Scored,
    in_pairs,
    to_judge,
)
from runtime.evals.context import EvalContext
from runtime.evals.protocol import ReportProgress, report_nothing
from runtime.json_client import JsonClient

JUDGE_S = 60.0
JUDGE_TOKENS = 16
QUESTIONS: Mapping[str, str] = {
    ACCURACY: "Does the answer say the same as the reference answer?",
    GROUNDED: "Is every statement of the answer supported by the source?",
}
BETTER = "Which answer is better?"
_BETTER = re.compile(r"\W*([ab])(?:\W*$|[^\w\s]|\n)", re.IGNORECASE)
_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class JudgeClient:
    """Requests the judge's verdict on answers, one at a time."""

    def __init__(self, client: JsonClient, judge: JudgeSettings) -> None:
        """Prepare; nothing is sent."""
        self._client, self._judge = client, judge

    async def scores(self, item: GoldenItem, answer: str) -> dict[str, Scored]:
        """Return the judge's scores of an answer, by measure.

        Raises:
            EvalError: FC4510, the judge cannot be reached, or another model answers in its place.
        """
        found = {}
        for measure in to_judge(item):
            said = await self._say(_brief(item, measure, answer))
            verdict = _VERDICT.match(said)
            if verdict:
                right = verdict.group(1).casefold() == "yes"
                found[measure] = Scored(float(right), "" if right else "the judge says no")
        return found

    async def better(self, item: GoldenItem, answer: str, other: str) -> bool | None:
        """Return whether an answer is better than another one; None: a tie.

        The judge is asked in both orders, because many judges prefer the first answer. Where the
        order decides, or the verdict is neither A nor B, the two answers tie.

        Raises:
            EvalError: as `scores`.
        """
        there = _BETTER.match(await self._say(_contest(item, answer, other)))
        back = _BETTER.match(await self._say(_contest(item, other, answer)))
        if there is None or back is None:
            return None
        first, second = there.group(1).upper() == "A", back.group(1).upper() == "B"
        return first if first is second else None

    async def _say(self, text: str) -> str:
        body = {
            "model": self._judge.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": JUDGE_TOKENS,
        }
        try:
            reply: Any = await self._client.post("/v1/chat/completions", body)
        except EngineError as error:
            raise _failed(self._judge, error.diagnostics[0].detail) from None
        try:
            model, said = reply["model"], reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise _failed(self._judge, "It answers in another form.") from None
        if model != self._judge.model:
            raise _failed(self._judge, f"`{model}` answered in its place.")
        return str(said or "")


@asynccontextmanager
async def judge_client(
    spec: EvalSpec, secret: Callable[[str], str | None], *, needed: bool
) -> AsyncIterator[JudgeClient | None]:
    """Give a client of the judge; None where no item needs the judge.

    Raises:
        EvalError: FC4511, items need a judge and none is declared.
    """
    if not needed:
        yield None
        return
    if spec.judge is None:
        raise EvalError(
            problem(
                "FC4511",
                "No judge is declared",
                "Items of the golden set are scored by `judge`, and there is no judge to ask.",
                hint="Declare one: evals: {judge: {url: http://host:8000, model: NAME}}.",
            )
        )
    judge = spec.judge
    key = secret(judge.key) if judge.key else None
    if judge.key and not key:
        raise _failed(judge, f"The key `{judge.key}` cannot be read here.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with JsonClient(judge.url, timeout_s=JUDGE_S, headers=headers) as client:
        yield JudgeClient(client, judge)


def _brief(item: GoldenItem, measure: str, answer: str) -> str:
    question = item.checks[measure].options.get("question") or QUESTIONS.get(
        measure, "Is the answer in the form that was asked for?"
    )
    parts = [("Question", item.asked)]
    if item.context:
        parts.append(("Source", item.context))
    if item.expected is not None and measure == ACCURACY:
        parts.append(("Reference answer", str(item.expected)))
    parts.append(("Answer", answer))
    shown = "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts)
    return f"{shown}\n\n{question} Reply with one word, YES or NO."


def _contest(item: GoldenItem, first: str, second: str) -> str:
    """Ask which of two answers is better."""
    question = item.checks[ACCURACY].options.get("question") or BETTER
    parts = [("Question", item.asked)]
    if item.context:
        parts.append(("Source", item.context))
    if item.expected is not None:
        parts.append(("Reference answer", str(item.expected)))
    parts += [("A", first), ("B", second)]
    shown = "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts)
    return f"{shown}\n\n{question} Reply with one letter, A or B, or TIE."


def _failed(judge: JudgeSettings, detail: str) -> EvalError:
    return EvalError(
        problem(
            "FC4510",
            "The judge gives no verdict",
            f"`{judge.model}` at {judge.url}: {detail}",
            hint="Without it nothing is passed. Start it, or score these items with a metric.",
        )
    )


async def _asked(judge: JudgeClient, label: LabelledAnswer) -> bool | None:
    if label.other is not None:
        return await judge.better(label.item, label.answer, label.other)
    (measure,) = to_judge(label.item)
    found = (await judge.scores(label.item, label.answer)).get(measure)
    return None if found is None else found.score == 1.0


async def judge_labels(
    labels: Sequence[LabelledAnswer],
    spec: EvalSpec,
    context: EvalContext,
    report: ReportProgress = report_nothing,
) -> list[bool | None]:
    """Return the judge's verdict on labelled answers, in order; None: neither YES nor NO.

    Raises:
        EvalError: FC4510 it cannot be reached, or another model answers in its place; FC4511
            none is declared.
    """
    room, done = asyncio.Semaphore(spec.concurrency), 0
    async with judge_client(spec, context.secret, needed=True) as judge:
        assert judge is not None, "one is needed"

        async def one(label: LabelledAnswer) -> bool | None:
            nonlocal done
            async with room:
                said = await _asked(judge, label)
                done += 1
                report(done, len(labels))
                return said

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(label)) for label in labels]
        except* EvalError as failed:
            raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


_SCORES: Mapping[bool | None, tuple[float, float]] = {
    None: (1.0, 1.0), True: (1.0, 0.0), False: (0.0, 1.0),
}  # fmt: skip
"""Of the old and the new version: a tie, the old one better, the new one better."""


async def pairwise(
    stable: EvalRun, canary: EvalRun, golden: GoldenSet, spec: EvalSpec, context: EvalContext
) -> tuple[EvalRun, EvalRun]:
    """Return both runs with the accuracy that a comparison in pairs gives; both are kept.

    The winner has 1 and the loser 0, both have 1 in a tie: what a paired test needs, and no
    share of right answers. An empty answer loses without a request.

    Raises:
        EvalError: FC4510, the judge does not answer; FC4511, none is declared.
    """
    others = {(sample.item, sample.sample): sample for sample in canary.samples}
    pairs = [
        (sample, others[sample.item, sample.sample])
        for sample in stable.samples
        if in_pairs(golden.by_id[sample.item]) and (sample.item, sample.sample) in others
        if not sample.error and not others[sample.item, sample.sample].error
    ]
    room = asyncio.Semaphore(spec.concurrency)
    async with judge_client(spec, context.secret, needed=True) as judge:
        assert judge is not None, "one is needed"

        async def one(old: Sample, new: Sample) -> bool | None:
            given = bool(old.answer.strip()), bool(new.answer.strip())
            if old.answer == new.answer or not all(given):
                return None if given[0] is given[1] else given[0]
            async with room:
                return await judge.better(golden.by_id[old.item], old.answer, new.answer)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(*pair)) for pair in pairs]
        except* EvalError as failed:
            raise failed.exceptions[0] from None
    said = {
        (old.item, old.sample): task.result() for (old, _), task in zip(pairs, tasks, strict=True)
    }
    return _scored(stable, said, context, 0), _scored(canary, said, context, 1)


def _scored(
    run: EvalRun, said: Mapping[tuple[str, int], bool | None], context: EvalContext, arm: int
) -> EvalRun:
    """Store and return a run of its own: these scores belong to the pair, not to one version."""
    samples = tuple(
        _of_pair(sample, _SCORES[said[sample.item, sample.sample]][arm])
        if (sample.item, sample.sample) in said
        else sample
        for sample in run.samples
    )
    made = replace(run, id=context.new_id(), samples=samples, cached=True)
    context.store.save(made)
    return made


def _of_pair(sample: Sample, score: float) -> Sample:
    note = "" if score else "accuracy: the other version's answer is better"
    return replace(sample, scores={**sample.scores, ACCURACY: score}, note=note)
