"""The engine `lm_eval`: lm-evaluation-harness asks and scores, in its own environment.

Generation tasks only. Log likelihoods are never asked for: with LoRA they can kill a server.
"""

import json
from pathlib import Path
from typing import Any

from fleet.errors import EvalError, problem
from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample, lm_eval_samples
from runtime.evals.context import EvalContext
from runtime.evals.engines.inspect_engine import refuse_other_metrics
from runtime.evals.engines.tool_process import (
    ProcessResult,
    interpreter,
    refuse_headers,
    run_tool,
    tool_failed,
)
from runtime.evals.protocol import EngineAnswers, ReportProgress

TASK = "fleetctl_golden"
GUARD = "= "
"""Before each text: what reads its data set takes `2033-03-25` for a time, and says so."""
SCORED = ("exact",)
"""Metrics that lm-eval has too."""
_INSTALL = "make engines"


class LmEvalEngine:
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
        """Write a task, run the harness, then believe its file of samples."""
        python = interpreter(
            "lm-eval", ".venv-lmeval", "FLEETCTL_LMEVAL_PYTHON", self._context.root, _INSTALL
        )
        refuse_headers("lm_eval", target)
        refuse_other_metrics("lm_eval", golden, SCORED)
        _refuse_more(golden, spec)
        report(0, len(golden.items))
        _write_task(golden, spec, folder)
        result = await run_tool(_command(python, target, spec, folder), folder, _offline(folder))
        samples = _read(folder, result)
        report(len(samples), len(golden.items))
        return EngineAnswers(samples, _version(folder))


def _refuse_more(golden: GoldenSet, spec: EvalSpec) -> None:
    why = ""
    if spec.samples > 1:
        why = f"{spec.samples} answers to each item are asked for, and it gives one"
    else:
        talk = next((item for item in golden.items if len(item.messages) != 1), None)
        why = f"`{talk.id}` has more than one message" if talk else ""
    if why:
        raise EvalError(
            problem(
                "FC4522",
                "The engine cannot score this item",
                f"`lm_eval`: {why}.",
                hint="Use `--engine native`, which scores everything a golden set may ask.",
            )
        )


def _write_task(golden: GoldenSet, spec: EvalSpec, folder: Path) -> None:
    rows = [
        {"id": item.id, "input": GUARD + item.messages[0]["content"],
         "target": GUARD + str(item.expected)}
        for item in golden.items
    ]  # fmt: skip
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task: dict[str, Any] = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": f"{{{{input[{len(GUARD)}:]}}}}",
        "doc_to_target": f"{{{{target[{len(GUARD)}:]}}}}",
        "generation_kwargs": {
            "until": [],
            "do_sample": spec.temperature > 0,
            "temperature": spec.temperature,
            "max_gen_toks": max(item.max_tokens for item in golden.items),
        },
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
    (folder / "tasks").mkdir()
    # JSON is YAML, and needs no library to write.
    (folder / "tasks" / f"{TASK}.yaml").write_text(json.dumps(task), encoding="utf-8")


def _command(python: Path, target: EvalTarget, spec: EvalSpec, folder: Path) -> list[str]:
    arguments = {
        "model": target.model,
        "base_url": f"{target.url}/v1/chat/completions",
        "num_concurrent": spec.concurrency,
        "tokenized_requests": "False",
        "tokenizer_backend": "None",
        "timeout": int(spec.timeout_s),
    }
    told = ",".join(f"{key}={value}" for key, value in arguments.items())
    return [
        str(python), "-m", "lm_eval", "run", "--model", "local-chat-completions",
        "--model_args", told, "--tasks", TASK, "--include_path", str(folder / "tasks"),
        "--output_path", str(folder / "out"), "--log_samples", "--apply_chat_template",
        "--seed", str(spec.seed),
    ]  # fmt: skip


def _offline(folder: Path) -> dict[str, str]:
    """Let it fetch nothing, and keep its caches out of the user's."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "OPENAI_API_KEY": "none",
    }


def _read(folder: Path, result: ProcessResult) -> tuple[Sample, ...]:
    files = sorted((folder / "out").rglob(f"samples_{TASK}_*.jsonl"))
    if not files:
        raise tool_failed("lm-eval", f"left no samples (exit code {result.code})", result.errors)
    try:
        return lm_eval_samples(files[-1].read_text(encoding="utf-8").splitlines(), ["exact_match"])
    except ValueError as error:
        raise tool_failed("lm-eval", str(error), result.errors) from None


def _version(folder: Path) -> str:
    for path in (folder / "out").rglob("results_*.json"):
        found = json.loads(path.read_bytes()).get("lm_eval_version")
        if found:
            return f"lm-eval {found}"
    return "lm-eval"
