"""The engine `inspect`: inspect-ai asks and scores, in its own environment."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.errors import EvalError, problem
from fleet.evals import (
    ACCURACY,
    EvalSpec,
    EvalTarget,
    GoldenItem,
    GoldenSet,
    Sample,
    inspect_samples,
    inspect_version,
)
from runtime.evals.context import EvalContext
from runtime.evals.engines.tool_process import interpreter, run_tool, tool_failed
from runtime.evals.probe import PURPOSE_HEADER
from runtime.evals.protocol import EngineAnswers, ReportProgress

BRIDGE = Path(__file__).with_name("inspect_bridge.py")
SCORED = ("contains", "exact", "numeric")
"""Metrics that inspect-ai has too."""
_INSTALL = "make engines"


class InspectEngine:
    """Keeps the contract of `runtime.evals.protocol.EvalEngine`."""

    def __init__(self, context: EvalContext) -> None:
        """Prepare; nothing is started."""
        self._context = context

    async def run(
        self,
        target: EvalTarget,
        golden: GoldenSet,
        spec: EvalSpec,
        folder: Path,
        report: ReportProgress,
    ) -> EngineAnswers:
        """Run the bridge, then believe its logs: their status, and each sample's score."""
        python = interpreter(
            "inspect-ai", ".venv-inspect", "FLEETCTL_INSPECT_PYTHON", self._context.root, _INSTALL
        )
        refuse_other_metrics("inspect", golden, SCORED)
        total = len(golden.items) * spec.samples
        report(0, total)
        job = folder / "job.json"
        job.write_text(json.dumps(_job(target, golden, spec, folder / "logs")), encoding="utf-8")
        quiet = {"INSPECT_DISPLAY": "none", "INSPECT_LOG_LEVEL": "error"}
        result = await run_tool([str(python), str(BRIDGE), str(job)], folder, quiet)
        logs = sorted((folder / "logs").glob("*.json"))
        if not logs:
            raise tool_failed("inspect-ai", f"left no log (exit code {result.code})", result.errors)
        samples: list[Sample] = []
        version = "inspect-ai"
        for log in logs:
            try:
                document = json.loads(log.read_bytes())
                samples += inspect_samples(document)
                version = inspect_version(document)
            except ValueError as error:
                raise tool_failed("inspect-ai", str(error), result.errors) from None
        report(total, total)
        return EngineAnswers(tuple(samples), version)


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
        elif item.prompt or any(
            m["role"] not in {"system", "user", "assistant"} for m in item.messages
        ):
            why = "is not a conversation of system, user and assistant"
        if why:
            raise EvalError(
                problem(
                    "FC4522",
                    "The engine cannot score this item",
                    f"`{item.id}` {why}, which `{engine}` does not do.",
                    hint="Use `--engine native`, which scores everything a golden set may ask.",
                )
            )


def _job(target: EvalTarget, golden: GoldenSet, spec: EvalSpec, logs: Path) -> dict[str, Any]:
    grouped: dict[tuple[str, int], list[GoldenItem]] = defaultdict(list)
    for item in golden.items:
        grouped[item.checks[ACCURACY].metric, item.max_tokens].append(item)
    key = target.headers.get("Authorization", "").removeprefix("Bearer ") or "none"
    return {
        "url": target.url,
        "model": target.model,
        "key": key,
        "headers": {PURPOSE_HEADER: "eval", **_others(target.headers)},
        "samples": spec.samples,
        "temperature": spec.temperature,
        "seed": spec.seed,
        "concurrency": spec.concurrency,
        "timeout_s": spec.timeout_s,
        "log_dir": str(logs),
        "tasks": [
            {
                "scorer": scorer,
                "max_tokens": longest,
                "items": [
                    {"id": i.id, "messages": list(i.messages), "target": _target(i)} for i in items
                ],
            }
            for (scorer, longest), items in grouped.items()
        ],
    }


def _others(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Authorization"}


def _target(item: GoldenItem) -> str | list[str]:
    if isinstance(item.expected, list):
        return [str(text) for text in item.expected]
    return str(item.expected)
