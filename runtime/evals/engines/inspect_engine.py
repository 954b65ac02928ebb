"""Runs the engine `inspect`: inspect-ai asks and scores, in its own environment."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from fleet.codec import decode_json
from fleet.errors import EvalError
from fleet.evals import (
    ACCURACY,
    EvalTarget,
    GoldenItem,
    GoldenSet,
    Sample,
    inspect_samples,
    inspect_version,
)
from fleet.spec import EvalSpec
from runtime.evals.context import PURPOSE_HEADER, EngineAnswers, EngineJob
from runtime.evals.tool_process import interpreter, refuse_tls, run_tool, tool_failed
from runtime.files import read_plain
from runtime.json_client import SERVER_KEYS

BRIDGE = Path(__file__).with_name("inspect_bridge.py")
ROLES = {"system", "user", "assistant"}
SCORED = ("contains", "exact", "numeric")
"""Metrics that inspect-ai has too."""
SPEC = ("samples", "temperature", "seed", "concurrency", "timeout_s")
"""Settings that the bridge takes."""


async def run_inspect(job: EngineJob) -> EngineAnswers:
    """Run the bridge, then believe its logs: their status, and every sample's score."""
    refuse_tls("inspect", job.target)
    python = interpreter("inspect-ai", job.context.root)
    refuse_other_metrics("inspect", job.golden, SCORED)
    job.report(0, job.total)
    path, logs = job.folder / "job.json", job.folder / "logs"
    path.write_text(json.dumps(_document(job.target, job.golden, job.spec, logs)), encoding="utf-8")
    shown = job.target.headers.get("Authorization", "").removeprefix("Bearer ")
    key = shown or SERVER_KEYS.get(job.target.url) or "none"
    variables = {"INSPECT_DISPLAY": "none", "INSPECT_LOG_LEVEL": "error", "FLEETCTL_KEY": key}
    result = await run_tool([str(python), str(BRIDGE), str(path)], job.folder, variables)
    samples: list[Sample] = []
    version = ""
    for log in sorted(logs.glob("*.json")):
        try:
            document = decode_json(read_plain(log))
            samples += inspect_samples(document)
            version = inspect_version(document)
        except ValueError as error:
            raise tool_failed("inspect-ai", str(error), result.errors) from None
    if not version:
        raise tool_failed("inspect-ai", f"left no log (exit code {result.code})", result.errors)
    job.report(job.total, job.total)
    return tuple(samples), version


def refuse_other_metrics(engine: str, golden: GoldenSet, scored: tuple[str, ...]) -> None:
    """Refuse items that another engine cannot score as they say.

    Raises:
        EvalError: FC4522, with the first such item.
    """
    for item in golden.items:
        metric = item.checks[ACCURACY].metric
        more = [measure for measure in item.checks if measure != ACCURACY]
        why = ""
        if metric not in scored or item.checks[ACCURACY].options:
            why = f"is scored by `{metric}`, with options or not among {', '.join(scored)}"
        elif more:
            why = f"is scored on `{more[0]}` too"
        elif item.prompt or {message["role"] for message in item.messages} - ROLES:
            why = "is not a conversation of system, user and assistant"
        if why:
            raise cannot_score(f"`{item.id}` {why}, which `{engine}` does not do.")


def cannot_score(detail: str) -> EvalError:
    """Return the error of items that an engine cannot score."""
    hint = "Use `--engine native`, which scores everything a golden set may ask."
    return EvalError.of("FC4522", "The engine cannot score this item", detail, hint=hint)


def _document(target: EvalTarget, golden: GoldenSet, spec: EvalSpec, logs: Path) -> dict[str, Any]:
    grouped: dict[tuple[str, int], list[GoldenItem]] = defaultdict(list)
    for item in golden.items:
        grouped[item.checks[ACCURACY].metric, item.max_tokens].append(item)
    others = dict(target.headers)
    others.pop("Authorization", None)  # in the environment, and in no file
    return {
        "url": target.url,
        "model": target.model,
        "headers": {PURPOSE_HEADER: "eval", **others},
        **{name: getattr(spec, name) for name in SPEC},
        "log_dir": str(logs),
        "tasks": [
            {
                "scorer": scorer,
                "max_tokens": longest,
                "items": [
                    {"id": i.id, "messages": list(i.messages), "target": _expected(i)}
                    for i in items
                ],
            }
            for (scorer, longest), items in grouped.items()
        ],
    }


def _expected(item: GoldenItem) -> str | list[str]:
    if isinstance(item.expected, list):
        return [str(text) for text in item.expected]
    return str(item.expected)
