"""Reads what other eval tools wrote as samples. Their exit codes prove nothing; their logs do."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet.evals.golden_item import ACCURACY
from fleet.evals.run import Sample

_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""inspect-ai's letters: correct, incorrect, partial, no answer."""
_GENERATED = "gen_args_0"


def inspect_samples(log: Mapping[str, Any]) -> tuple[Sample, ...]:
    """Return the samples of an inspect-ai log; a sample that failed or has no score has an error.

    Raises:
        ValueError: it is no such log, the run did not end well, or some of the samples that it
            declares are not there; the text says why.
    """
    status = log.get("status")
    if "eval" not in log or status is None:
        raise ValueError("this is not a log of inspect-ai")
    if status != "success":
        error = log.get("error") or {}
        raise ValueError(f"inspect-ai ended with `{status}`: {error.get('message', 'no reason')}")
    samples = tuple(_inspected(sample) for sample in log.get("samples") or ())
    _whole(log, samples)
    return samples


def _whole(log: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Refuse a log that was cut: every question must have its answer once."""
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


def inspect_version(log: Mapping[str, Any]) -> str:
    """Return the version of inspect-ai that wrote a log."""
    found = log.get("eval", {}).get("packages", {}).get("inspect_ai", "")
    return f"inspect-ai {found}".strip()


def _inspected(sample: Mapping[str, Any]) -> Sample:
    item, number = str(sample.get("id")), int(sample.get("epoch", 1)) - 1
    output = sample.get("output") or {}
    error = sample.get("error")
    if error:
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
    if isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def lm_eval_samples(
    lines: Iterable[str], metrics: Sequence[str] = (), chosen: str = ""
) -> tuple[Sample, ...]:
    """Return the samples of lm-eval's file of samples.

    Only generated answers count: what was scored by log likelihood is refused, for asking for
    it can kill a server with LoRA, and it says nothing of what clients are answered.

    Args:
        lines: Of the file that `--log_samples` wrote.
        metrics: Which metric is the accuracy, the first that is there. Default: the first that
            each line names.
        chosen: Which of lm-eval's filters, where the file has the answers as read by several.

    Raises:
        ValueError: a line is no sample; the text names it. There are several filters and none
            is chosen, or not the chosen one; the text names them.
    """
    found: dict[str, list[Sample]] = {}
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
        made = _harnessed(document, metrics, number)
        found.setdefault(str(document.get("filter", "none")), []).append(made)
    names = ", ".join(sorted(found))
    if chosen and chosen not in found:
        raise ValueError(f"it has no filter `{chosen}`, but {names}")
    if len(found) > 1 and not chosen:
        raise ValueError(f"each answer stands there once for each filter, {names}: choose one")
    return tuple(found[chosen] if chosen else next(iter(found.values()), ()))


def _harnessed(document: Mapping[str, Any], metrics: Sequence[str], number: int) -> Sample:
    arguments = document.get("arguments")
    generated = isinstance(arguments, Mapping) and isinstance(
        arguments.get(_GENERATED, {}).get("arg_1"), Mapping
    )
    if not generated:
        raise ValueError(f"line {number} was not generated but scored by log likelihood")
    doc = document["doc"]
    named = doc.get("id") if isinstance(doc, Mapping) else None
    item = str(named if named is not None else document.get("doc_hash") or document.get("doc_id"))
    names = [metric for metric in metrics if metric in document] or list(document["metrics"])
    value = _graded(document.get(names[0])) if names else None
    resps = document.get("filtered_resps") or [""]
    answer = resps[0] if isinstance(resps[0], str) else ""
    if value is None:
        return Sample(item, error="lm-eval gave no score from 0 to 1")
    if not answer.strip():  # what it cannot read it takes for an empty answer
        return Sample(item, error="lm-eval has an empty answer")
    note = "" if value == 1.0 else "scored by lm-eval"
    return Sample(item, 0, answer, {ACCURACY: value}, note)


def numbered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Number the answers to an item in their order."""
    seen: dict[str, int] = {}
    made = []
    for sample in samples:
        number = seen.get(sample.item, 0)
        seen[sample.item] = number + 1
        made.append(replace(sample, sample=number))
    return tuple(made)


def questions(documents: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], str]:
    """Return the items of another tool's samples, and the digest of the questions."""
    asked: dict[str, str] = {}
    for document in documents:
        if "doc" in document:
            doc = document["doc"]
            named = doc.get("id") if isinstance(doc, Mapping) else None
            item = str(
                named if named is not None else document.get("doc_hash") or document.get("doc_id")
            )
            asked[item] = json.dumps([doc, document.get("target")], sort_keys=True)
        else:
            # Messages carry ids that are new with every run; what was said is what counts.
            target = document.get("target")
            asked[str(document.get("id"))] = json.dumps([_texts(document.get("input")), target])
    content = json.dumps(sorted(asked.items()))
    return tuple(asked), hashlib.sha256(content.encode()).hexdigest()


def _texts(asked: Any) -> Any:
    if isinstance(asked, list):
        return [text.get("content") for text in asked if isinstance(text, Mapping)]
    return asked
