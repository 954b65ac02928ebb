"""Runs the engine `lm_eval`: lm-evaluation-harness asks and scores, in its own environment.

Generation tasks only. Log likelihoods are never asked for: with LoRA they can kill a server.
"""

import json
from pathlib import Path
from typing import Any

from fleet.codec import decode_json
from fleet.evals import EvalTarget, GoldenSet, Sample, lm_eval_samples
from fleet.spec import EvalSpec
from runtime.evals.context import EngineAnswers, EngineJob
from runtime.evals.engines.inspect_engine import cannot_score, refuse_other_metrics
from runtime.evals.tool_process import (
    ProcessResult,
    interpreter,
    refuse_headers,
    refuse_tls,
    run_tool,
    tool_failed,
)
from runtime.files import plain_text, read_plain
from runtime.json_client import SERVER_KEYS

TASK = "fleetctl_golden"
GUARD = "= "
"""Prefix of texts, without which the harness's reader takes `2033-03-25` for a time."""
SCORED = ("exact",)
"""Metrics that lm-eval has too."""


async def run_lm_eval(job: EngineJob) -> EngineAnswers:
    """Write a task, run the harness, then believe its file of samples."""
    target, golden, spec, folder = job.target, job.golden, job.spec, job.folder
    refuse_tls("lm_eval", target)
    python = interpreter("lm-eval", job.context.root)
    refuse_headers("lm_eval", target)
    refuse_other_metrics("lm_eval", golden, SCORED)
    if spec.samples > 1:
        text = f"`lm_eval`: {spec.samples} answers to each item are asked for, and it gives one."
        raise cannot_score(text)
    for item in golden.items:
        if len(item.messages) != 1:
            raise cannot_score(f"`lm_eval`: `{item.id}` has more than one message.")
    job.report(0, job.total)
    _write_task(golden, spec, folder)
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),  # no cache of the user's
        "OPENAI_API_KEY": SERVER_KEYS.get(target.url) or "none",
    }
    result = await run_tool(_command(python, target, spec, folder), folder, offline)
    samples = _read(folder, result)
    job.report(len(samples), job.total)
    return samples, _version(folder)


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
    model_args = ",".join(f"{key}={value}" for key, value in arguments.items())
    return [
        str(python), "-m", "lm_eval", "run", "--model", "local-chat-completions",
        "--model_args", model_args, "--tasks", TASK, "--include_path", str(folder / "tasks"),
        "--output_path", str(folder / "out"), "--log_samples", "--apply_chat_template",
        "--seed", str(spec.seed),
    ]  # fmt: skip


def _read(folder: Path, result: ProcessResult) -> tuple[Sample, ...]:
    files = sorted((folder / "out").rglob(f"samples_{TASK}_*.jsonl"))
    if not files:
        raise tool_failed("lm-eval", f"left no samples (exit code {result.code})", result.errors)
    try:
        return lm_eval_samples(plain_text(files[-1]).splitlines(), ["exact_match"])
    except ValueError as error:
        raise tool_failed("lm-eval", str(error), result.errors) from None


def _version(folder: Path) -> str:
    for path in (folder / "out").rglob("results_*.json"):
        if version := decode_json(read_plain(path)).get("lm_eval_version"):
            return f"lm-eval {version}"
    return "lm-eval"
