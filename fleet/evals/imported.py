"""Reads the logs of other eval tools as samples. The tools' exit codes prove nothing."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from fleet.evals.golden_item import ACCURACY
from fleet.evals.run import Sample

_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""inspect-ai's letters: correct, incorrect, partial, no answer."""
_GENERATED = "gen_args_0"


def inspect_samples(log: Mapping[str, Any]) -> tuple[Sample, ...]:
    """Return the samples of an inspect-ai log; a sample that failed or has no score has an error.

    Raises:
        ValueError: the log is of another kind, its run did not end well, or it lacks samples that
            it declares; the text says why.
    """
    status = log.get("status")
    if "eval" not in log or status is None:
        raise ValueError("this is not a log of inspect-ai")
    if status != "success":
        error = log.get("error") or {}
        raise ValueError(f"inspect-ai ended with `{status}`: {error.get('message', 'no reason')}")
    samples = tuple(_inspected(sample) for sample in log.get("samples") or ())
    there = Counter((sample.item, sample.sample) for sample in samples)
    twice = [item for (item, _), times in there.items() if times > 1]
    if twice:
        raise ValueError(f"sample `{twice[0]}` stands twice")
    declared = (log.get("results") or {}).get("total_samples")
    if isinstance(declared, int) and len(samples) < declared:
        raise ValueError(f"it has {len(samples)} samples, and {declared} were asked")
    epochs = (log["eval"].get("config") or {}).get("epochs")
    for item, times in Counter(item for item, _ in there).items():
        if isinstance(epochs, int) and times < epochs:
            raise ValueError(f"sample `{item}` has {times} epochs, and {epochs} were asked")
    return samples


def inspect_version(log: Mapping[str, Any]) -> str:
    """Return the version of inspect-ai that wrote a log."""
    version = log.get("eval", {}).get("packages", {}).get("inspect_ai", "")
    return f"inspect-ai {version}".strip()


def _inspected(sample: Mapping[str, Any]) -> Sample:
    item, number = str(sample.get("id")), int(sample.get("epoch", 1)) - 1
    output = sample.get("output") or {}
    if error := sample.get("error"):
        return Sample(item, number, error=str(error.get("message", error)))
    scores = sample.get("scores") or {}
    if len(scores) != 1:
        return Sample(item, number, error=f"has {len(scores)} scores, and one is needed")
    [score] = scores.values()
    value = _graded(score.get("value"))
    if value is None:
        return Sample(item, number, error=f"its score {score.get('value')!r} is no share")
    choices = output.get("choices") or [{}]
    return Sample(
        item,
        number,
        str(output.get("completion") or ""),
        {ACCURACY: value},
        note="" if value == 1.0 else "scored by inspect-ai",
        finish=str(choices[0].get("stop_reason") or ""),
        output_tokens=(output.get("usage") or {}).get("output_tokens"),
        seconds=output.get("time"),
        model=str(output.get("model") or ""),
    )


def _graded(value: Any) -> float | None:
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def lm_eval_samples(
    lines: Iterable[str], metrics: Sequence[str] = (), chosen: str = ""
) -> tuple[Sample, ...]:
    """Return the samples of the lines that lm-eval's `--log_samples` wrote.

    Only generated answers count. Log likelihoods are refused: asking for them can kill a server
    with LoRA, and they tell nothing of the answers to clients.

    The accuracy is the first of `metrics` that a line has; default: the first metric that the line
    names. `chosen` is a filter of lm-eval, where the file has answers of several filters.

    Raises:
        ValueError: a line is no sample, several filters and none is chosen, or the chosen filter
            is not there; the text names the line or the filters.
    """
    by_filter: dict[str, list[Sample]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"line {number} is not JSON") from None
        if not isinstance(document, dict):
            raise ValueError(f"line {number} is not a JSON object")  # noqa: TRY004 (of the file)
        lacks = [key for key in ("doc", "metrics", "arguments") if key not in document]
        if lacks:
            raise ValueError(f"line {number} is not a sample of lm-eval: it has no `{lacks[0]}`")
        sample = _harnessed(document, metrics, number)
        by_filter.setdefault(str(document.get("filter", "none")), []).append(sample)
    names = ", ".join(sorted(by_filter))
    if chosen and chosen not in by_filter:
        raise ValueError(f"it has no filter `{chosen}`, but {names}")
    if len(by_filter) > 1 and not chosen:
        raise ValueError(f"each answer stands there once for each filter, {names}: choose one")
    return tuple(by_filter[chosen] if chosen else next(iter(by_filter.values()), ()))


def _harnessed(document: Mapping[str, Any], metrics: Sequence[str], number: int) -> Sample:
    given = document.get("arguments")
    first = given.get(_GENERATED, {}).get("arg_1") if isinstance(given, Mapping) else None
    if not isinstance(first, Mapping):
        text = f"line {number} was not generated but scored by log likelihood"
        raise ValueError(text)  # noqa: TRY004 (of the file)
    item = _harness_item(document)
    names = [metric for metric in metrics if metric in document] or list(document["metrics"])
    value = _graded(document.get(names[0])) if names else None
    resps = document.get("filtered_resps") or [""]
    answer = resps[0] if isinstance(resps[0], str) else ""
    if value is None:
        return Sample(item, error="lm-eval gave no score from 0 to 1")
    if not answer.strip():  # lm-eval takes an answer that it cannot read for an empty answer
        return Sample(item, error="lm-eval has an empty answer")
    note = "" if value == 1.0 else "scored by lm-eval"
    return Sample(item, 0, answer, {ACCURACY: value}, note)


def _harness_item(document: Mapping[str, Any]) -> str:
    doc = document["doc"]
    item = doc.get("id") if isinstance(doc, Mapping) else None
    return str(item if item is not None else document.get("doc_hash") or document.get("doc_id"))


def numbered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Number the answers to an item in their order."""
    numbers: dict[str, Iterator[int]] = defaultdict(count)
    return tuple(replace(sample, sample=next(numbers[sample.item])) for sample in samples)


def questions(documents: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], str]:
    """Return the items of another tool's samples, and the digest of the questions."""
    asked: dict[str, str] = {}
    for document in documents:
        if "doc" in document:
            item, question = _harness_item(document), document["doc"]
        else:
            item, question = str(document.get("id")), document.get("input")
            if isinstance(question, list):  # the ids of messages are new with every run
                question = [text.get("content") for text in question if isinstance(text, Mapping)]
        asked[item] = json.dumps([question, document.get("target")], sort_keys=True)
    content = json.dumps(sorted(asked.items()))
    return tuple(asked), hashlib.sha256(content.encode()).hexdigest()
