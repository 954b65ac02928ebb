"""A judge: a model at another endpoint that scores what code cannot.

It is asked at temperature 0 and answers with YES or NO. Whatever else it says is no score, so
that the item counts as missing and never as right.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fleet.errors import EngineError, EvalError, problem
from fleet.evals.answer import Scored
from fleet.evals.items import ACCURACY, GROUNDED, Item
from fleet.evals.run import Judge, Spec
from fleet.evals.scoring import to_judge
from runtime.transport import JsonClient

JUDGE_S = 60.0
JUDGE_TOKENS = 16
QUESTIONS: Mapping[str, str] = {
    ACCURACY: "Does the answer say the same as the reference answer?",
    GROUNDED: "Is every statement of the answer supported by the source?",
}
BETTER = "Which answer is better?"
_BETTER = re.compile(r"\W*([ab])(?:\W*$|[^\w\s]|\n)", re.IGNORECASE)
_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class Bench:
    """Where the judge sits: asks it about one answer after another."""

    def __init__(self, client: JsonClient, judge: Judge) -> None:
        """Prepare; nothing is sent."""
        self._client, self._judge = client, judge

    async def scores(self, item: Item, answer: str) -> dict[str, Scored]:
        """Return what the judge says of an answer, by measure.

        Raises:
            EvalError: FC4510, it cannot be reached, or another model answers in its place.
        """
        found = {}
        for measure in to_judge(item):
            said = await self._say(_brief(item, measure, answer))
            verdict = _VERDICT.match(said)
            if verdict:
                right = verdict.group(1).casefold() == "yes"
                found[measure] = Scored(float(right), "" if right else "the judge says no")
        return found

    async def better(self, item: Item, answer: str, other: str) -> bool | None:
        """Say whether an answer is better than another one; None: a tie.

        It is asked in both orders: many judges prefer what stands first. Where the order decides,
        or it says neither A nor B, the two are as good as each other.

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
async def bench(
    spec: Spec, secret: Callable[[str], str | None], *, needed: bool
) -> AsyncIterator[Bench | None]:
    """Give a bench where one is needed.

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
        yield Bench(client, judge)


def _brief(item: Item, measure: str, answer: str) -> str:
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


def _contest(item: Item, first: str, second: str) -> str:
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


def _failed(judge: Judge, detail: str) -> EvalError:
    return EvalError(
        problem(
            "FC4510",
            "The judge gives no verdict",
            f"`{judge.model}` at {judge.url}: {detail}",
            hint="Without it nothing is passed. Start it, or score these items with a metric.",
        )
    )
