"""Run golden items through inspect-ai: `python inspect_bridge.py JOB`, in its environment.

JOB is a JSON file: url, model, samples, temperature, seed, concurrency, timeout_s, log_dir and
tasks. A task has a `scorer`, `max_tokens` and `items` (id, messages, target), and makes a log.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as run
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    get_model,
)
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate

ROLES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
SCORERS = {
    "exact": lambda: match("exact", ignore_case=False),
    "contains": lambda: includes(ignore_case=False),
    "numeric": lambda: match("end", numeric=True),
}


def main(path: Path) -> None:
    """Run every task; failures stand in the logs, which the caller reads."""
    job = json.loads(path.read_text(encoding="utf-8"))
    model = get_model(
        f"openai-api/fleetctl/{job['model']}",
        base_url=f"{job['url']}/v1",
        api_key=os.environ["FLEETCTL_KEY"],
        default_headers=job["headers"],
    )
    tasks = [_task(number, task, job) for number, task in enumerate(job["tasks"])]
    run(
        tasks,
        model=model,
        log_dir=job["log_dir"],
        log_format="json",
        display="none",
        epochs=job["samples"],
        max_connections=job["concurrency"],
        max_samples=job["concurrency"],
        timeout=int(job["timeout_s"]),
        fail_on_error=False,
        max_tasks=1,
    )


def _task(number: int, given: dict[str, Any], job: dict[str, Any]) -> Task:
    samples = [
        Sample(
            input=[ROLES[text["role"]](content=text["content"]) for text in item["messages"]],
            target=item["target"],
            id=item["id"],
        )
        for item in given["items"]
    ]
    config = GenerateConfig(
        temperature=job["temperature"], seed=job["seed"], max_tokens=given["max_tokens"]
    )
    return Task(
        dataset=MemoryDataset(samples),
        solver=generate(),
        scorer=SCORERS[given["scorer"]](),
        config=config,
        name=f"golden_{number}",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
