"""The judge of a project compared with people's labels, and whether a gate may go by it."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import FleetError, did_you_mean, problem
from fleetctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


def compared(session: Session, path: Path, client: str, *, quiet: bool) -> dict[str, Any]:
    """Ask the judge about labelled answers, write down how far it agrees, return the entry.

    Raises:
        FleetError: no such client, a label is wrong, or the judge does not answer.
    """
    from fleet.evals import (  # noqa: PLC0415 (keeps small commands fast)
        agreement,
        eval_spec_of,
        read_labels,
    )
    from fleetctl.judging import office_of  # noqa: PLC0415
    from runtime.evals.judge import judge_labels  # noqa: PLC0415

    fleet = session.fleet()
    if client not in fleet.clients:
        near = did_you_mean(client, sorted(fleet.clients))
        raise FleetError(
            problem("FC5122", "No such client", f"`{client}` is not declared.", hint=near)
        )
    content = path.read_bytes()
    labels, spec = read_labels(content, str(path)), eval_spec_of(fleet.evals)
    office = office_of(session, "server")
    said = asyncio.run(judge_labels(labels, spec, office, _teller(quiet=quiet)))
    found = agreement([(each.right, word) for each, word in zip(labels, said, strict=True)])
    assert spec.judge is not None, "it was asked"
    entry = {
        "client": client, "url": spec.judge.url, "model": spec.judge.model,
        "labels": str(path), "labels_sha256": hashlib.sha256(content).hexdigest(), **found.plain(),
    }  # fmt: skip
    session.ledger().append("judge_compared", [entry])
    differs = [
        {"id": each.item.id, "label": _word(each.right), "judge": _word(word)}
        for each, word in zip(labels, said, strict=True)
        if word is not each.right
    ]
    return {**entry, "decides": not found.objection, "differs": differs}


def objections(session: Session) -> "Callable[[str], str]":
    """Return what says why the judge decides nothing for a client; empty: it does."""

    def why(client: str) -> str:
        from fleet.evals import eval_spec_of, objection  # noqa: PLC0415

        judge = eval_spec_of(session.fleet().evals).judge
        return objection(session.ledger().read(), judge, client)

    return why


def _word(said: bool | None) -> str:
    return {True: "yes", False: "no", None: "neither"}[said]


def _teller(*, quiet: bool) -> "Callable[[int, int], None]":
    last = 0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if not quiet and done * 4 // total > last:
            last = done * 4 // total
            click.echo(f"  {done} of {total} labelled answers", err=True)

    return tell
