"""Ask the LLM judge: score answers, compare two answers, compare the judge with human labels.

The judge is a model at another endpoint, asked at temperature 0. A verdict that is neither YES nor
NO (in a comparison: A nor B) is no score: the item counts as missing, never as right.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from fleet.errors import EngineError, EvalError
from fleet.evals import (
    ACCURACY,
    GROUNDED,
    EvalRun,
    GoldenItem,
    GoldenSet,
    LabelledAnswer,
    Sample,
    Scored,
    in_pairs,
    to_judge,
)
from fleet.spec import EvalSpec, JudgeSpec
from runtime.evals.context import EvalContext, ReportProgress, report_nothing
from runtime.json_client import JsonClient
from runtime.trust import UntrustedError, authorization, require_bound

JUDGE_S = 60.0
"""Upper bound of the time of a verdict, in seconds."""
JUDGE_TOKENS = 16
Result = TypeVar("Result")
QUESTIONS: Mapping[str, str] = {
    ACCURACY: "Does the answer say the same as the reference answer?",
    GROUNDED: "Is every statement of the answer supported by the source?",
}
BETTER = "Which answer is better?"
_BETTER = re.compile(r"\W*([ab])(?:\W*$|[^\w\s]|\n)", re.IGNORECASE)
_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class JudgeClient:
    """Requests the judge's verdicts on answers, `concurrency` at a time."""

    def __init__(self, client: JsonClient, judge: JudgeSpec, concurrency: int) -> None:
        self._client, self._judge = client, judge
        self._room = asyncio.Semaphore(concurrency)

    async def scores(self, item: GoldenItem, answer: str) -> dict[str, Scored]:
        """Return the judge's scores of an answer, by measure.

        Raises:
            EvalError: FC4510, the judge cannot be reached, or another model answers in its place.
        """
        scores = {}
        for measure in to_judge(item):
            verdict = _VERDICT.match(await self._say(_brief(item, measure, answer)))
            if verdict:
                right = verdict.group(1).casefold() == "yes"
                scores[measure] = Scored(float(right), "" if right else "the judge says no")
        return scores

    async def better(self, item: GoldenItem, answer: str, other: str) -> bool | None:
        """Return whether an answer is better than another answer; None: a tie.

        The judge is asked in both orders, because many judges prefer the first answer. Where the
        order decides, or the verdict is neither A nor B, the two answers tie.

        Raises:
            EvalError: FC4510, as in `scores`.
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
            async with self._room:
                reply: Any = await self._client.post("/v1/chat/completions", body)
        except EngineError as error:
            raise _failed(self._judge, error.diagnostics[0].detail) from None
        try:
            model, verdict = reply["model"], reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise _failed(self._judge, "It answers in another form.") from None
        if model != self._judge.model:
            raise _failed(self._judge, f"`{model}` answered in its place.")
        return str(verdict or "")


@asynccontextmanager
async def judge_client(
    spec: EvalSpec, secret: Callable[[str], str | None]
) -> AsyncIterator[JudgeClient]:
    """Give a client of the judge.

    Raises:
        EvalError: FC4511, no judge is declared; FC4510, the judge's key cannot be read.
    """
    if spec.judge is None:
        detail = "Items of the golden set are scored by `judge`, and there is no judge to ask."
        hint = "Declare one: evals: {judge: {url: http://host:8000, model: NAME}}."
        raise EvalError.of("FC4511", "No judge is declared", detail, hint=hint)
    judge = spec.judge
    headers: dict[str, str] = {}
    if judge.key:
        try:
            require_bound(judge.url, judge.key)
            key = secret(judge.key)
            headers = authorization(judge.url, judge.key, key) if key else {}
        except UntrustedError as error:
            raise _failed(judge, error.diagnostics[0].detail) from None
        if not key:
            raise _failed(judge, f"The key `{judge.key}` cannot be read here.")
    async with JsonClient(judge.url, timeout_s=JUDGE_S, headers=headers) as client:
        yield JudgeClient(client, judge, spec.concurrency)


def _brief(item: GoldenItem, measure: str, answer: str) -> str:
    question = item.checks[measure].options.get("question") or QUESTIONS.get(
        measure, "Is the answer in the form that was asked for?"
    )
    shown = _shown(item, {"Answer": answer}, expected=measure == ACCURACY)
    return f"{shown}\n\n{question} Reply with one word, YES or NO."


def _contest(item: GoldenItem, first: str, second: str) -> str:
    question = item.checks[ACCURACY].options.get("question") or BETTER
    shown = _shown(item, {"A": first, "B": second}, expected=True)
    return f"{shown}\n\n{question} Reply with one letter, A or B, or TIE."


def _shown(item: GoldenItem, answers: Mapping[str, str], *, expected: bool) -> str:
    texts = {"Question": item.asked}
    if item.context:
        texts["Source"] = item.context
    if item.expected is not None and expected:
        texts["Reference answer"] = str(item.expected)
    texts |= answers
    return "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in texts.items())


def _failed(judge: JudgeSpec, detail: str) -> EvalError:
    hint = "Without it nothing is passed. Start it, or score these items with a metric."
    where = f"`{judge.model}` at {judge.url}: {detail}"
    return EvalError.of("FC4510", "The judge gives no verdict", where, hint=hint)


async def all_of(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return the results of coroutines that run at the same time, in order.

    Raises:
        EvalError: a coroutine failed; the others are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except* EvalError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def judge_labels(
    labels: Sequence[LabelledAnswer],
    spec: EvalSpec,
    context: EvalContext,
    report: ReportProgress = report_nothing,
) -> list[bool | None]:
    """Return the judge's verdicts on labelled answers, in order; None: neither YES nor NO.

    Raises:
        EvalError: FC4510, the judge cannot be reached, or another model answers in its place;
            FC4511, no judge is declared.
    """
    done = 0
    async with judge_client(spec, context.secret) as judge:

        async def verdict(label: LabelledAnswer) -> bool | None:
            nonlocal done
            if label.other is not None:
                right = await judge.better(label.item, label.answer, label.other)
            else:
                scores = await judge.scores(label.item, label.answer)
                right = next((score.score == 1.0 for score in scores.values()), None)
            done += 1
            report(done, len(labels))
            return right

        return await all_of(map(verdict, labels))


_SCORES: Mapping[bool | None, tuple[float, float]] = {
    None: (1.0, 1.0), True: (1.0, 0.0), False: (0.0, 1.0),
}  # fmt: skip
"""Scores of the old and the new version: a tie, the old better, the new better."""


async def pairwise(
    stable: EvalRun, canary: EvalRun, golden: GoldenSet, spec: EvalSpec, context: EvalContext
) -> tuple[EvalRun, EvalRun]:
    """Return both runs with the accuracy that a comparison in pairs gives; both are kept.

    The winner has 1 and the loser 0, both have 1 in a tie: the scores that a paired test needs, and
    no share of right answers. An empty answer loses without a request.

    Raises:
        EvalError: FC4510, the judge does not answer; FC4511, no judge is declared.
    """
    others = {(sample.item, sample.sample): sample for sample in canary.samples}
    pairs = [
        (sample, others[sample.item, sample.sample])
        for sample in stable.samples
        if in_pairs(golden.by_id[sample.item]) and (sample.item, sample.sample) in others
        if not sample.error and not others[sample.item, sample.sample].error
    ]
    async with judge_client(spec, context.secret) as judge:

        async def verdict(old: Sample, new: Sample) -> bool | None:
            given = bool(old.answer.strip()), bool(new.answer.strip())
            if old.answer == new.answer or not all(given):
                return None if given[0] is given[1] else given[0]
            return await judge.better(golden.by_id[old.item], old.answer, new.answer)

        results = await all_of(verdict(*pair) for pair in pairs)
    verdicts = {
        (old.item, old.sample): result for (old, _), result in zip(pairs, results, strict=True)
    }
    return _scored(stable, verdicts, context, 0), _scored(canary, verdicts, context, 1)


def _scored(
    run: EvalRun, verdicts: Mapping[tuple[str, int], bool | None], context: EvalContext, arm: int
) -> EvalRun:
    """Store and return a run of its own: these scores belong to the pair, not to a version."""
    samples = []
    for sample in run.samples:
        key = (sample.item, sample.sample)
        score = _SCORES[verdicts[key]][arm] if key in verdicts else None
        note = "" if score else "accuracy: the other version's answer is better"
        scores = {**sample.scores, ACCURACY: score or 0.0}
        samples.append(sample if score is None else replace(sample, scores=scores, note=note))
    scored_run = replace(run, id=context.new_id(), samples=tuple(samples), cached=True)
    context.store.save(scored_run)
    return scored_run
