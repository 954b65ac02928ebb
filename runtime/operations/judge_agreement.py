"""Compare the LLM judge of a project with people's labels: may a gate rest on the judge?"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.errors import FleetError, did_you_mean, problem
from fleet.evals import agreement, eval_spec_of, read_labels
from fleet.history import JudgeCompared, data_of
from runtime.evals.judge import judge_labels
from runtime.messages import EmitMessage, Message
from runtime.operations.eval_context import eval_context
from runtime.workspace import Workspace


def compare_judge(workspace: Workspace, path: Path, client: str, *, quiet: bool) -> dict[str, Any]:
    """Ask the judge about labelled answers, record the agreement, return the entry.

    Raises:
        FleetError: no such client, a label is wrong, or the judge does not answer.
    """
    fleet = workspace.fleet()
    if client not in fleet.clients:
        near = did_you_mean(client, sorted(fleet.clients))
        raise FleetError(
            problem("FC5122", "No such client", f"`{client}` is not declared.", hint=near)
        )
    content = path.read_bytes()
    labels, spec = read_labels(content, str(path)), eval_spec_of(fleet.evals)
    context = eval_context(workspace, "server")
    progress = _ignore if quiet else _progress(workspace.emit)
    answers = asyncio.run(judge_labels(labels, spec, context, progress))
    pairs = list(zip(labels, answers, strict=True))
    found = agreement([(label.right, answer) for label, answer in pairs])
    assert spec.judge is not None, "it was asked"
    event = JudgeCompared(
        client,
        spec.judge.url,
        spec.judge.model,
        str(path),
        hashlib.sha256(content).hexdigest(),
        **found.plain(),
    )
    workspace.ledger().append([event])
    differs = [
        {"id": label.item.id, "label": _word(label.right), "judge": _word(answer)}
        for label, answer in pairs
        if answer is not label.right
    ]
    return {**data_of(event), "decides": not found.objection, "differs": differs}


def _word(answer: bool | None) -> str:  # noqa: FBT001 (a judge's answer)
    return {True: "yes", False: "no", None: "neither"}[answer]


def _ignore(done: int, total: int) -> None:
    """Report no progress."""


def _progress(emit: EmitMessage) -> Callable[[int, int], None]:
    last = 0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done * 4 // total > last:
            last = done * 4 // total
            emit(Message(f"  {done} of {total} labelled answers"))

    return progress
