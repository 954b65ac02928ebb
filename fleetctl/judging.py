"""The gates of a project at one tick: judged, written down, and whoever failed rolled back."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from fleetctl.scenes import scene_of, tell_away, tell_doubts
from fleetctl.session import Session
from fleetctl.taking_back import JudgingRound, roll_back_failed, roll_back_rejected, why

if TYPE_CHECKING:
    from fleet.resources import State
    from fleet.rollouts import GateTrial
    from runtime.evals.context import EvalContext
    from runtime.evals.protocol import ReportProgress
    from runtime.gates.evidence import JudgedGate
    from runtime.gates.tick import Evaluations, TickContext

VERDICT_S = 5.0
"""How long a verdict waits for the ledger before it is acted on all the same."""


async def judge_round(
    session: Session,
    live: "State",
    evaluations: "Evaluations",
    until: asyncio.Event | None = None,
) -> JudgingRound:
    """Judge what is being tried; roll back each alias whose new version has failed.

    Live gates come first and fast; golden sets are asked beside the rounds. With `until` they
    are waited for, or given up once it is set. After a crash at any point the next round does
    what is left.

    Where the ledger cannot be read, live gates are judged by what was last read of it: whoever
    fails is rolled back, which is queued for the ledger; golden sets that are being asked are
    queued as well, no other is asked, and nothing else is done. By a clock
    that is behind, and of an alias whose evidence was tampered with, they are judged as well, and
    nothing but a failure counts.

    Raises:
        FleetError: the ledger cannot be read, and never was.
    """
    done = JudgingRound()
    known = await asyncio.to_thread(session.last_known)
    done.away = known.away
    scene = await asyncio.to_thread(scene_of, session, live, known.entries)
    _doubt(scene, done)
    tell_doubts(scene)
    if done.away is not None or done.behind is not None:
        await _judge_traffic(session, scene, done)
        await _take_evaluations(session, live, evaluations, done)
        if known.away is not None:
            await tell_away(session, known, why(done), scene)
        return done
    if await _undo_drills(session, scene):
        done.moved = True
    await _judge_traffic(session, scene, done)
    await _take_evaluations(session, live, evaluations, done)
    scene = await asyncio.to_thread(scene_of, session, live)  # what was found is in the ledger now
    _doubt(scene, done)
    begun = evaluations.start(scene, office_of(session), _progress)
    for trial in begun:
        click.echo(f"Evaluates {trial.adapter} beside {trial.stable}.", err=True)
    if until is not None:
        await _take_evaluations(session, live, evaluations, done, until)
    return done


def _doubt(scene: "TickContext", done: JudgingRound) -> None:
    """Keep what is not to be believed, for whoever moves rollouts on."""
    from runtime.gates.tick import tampering  # noqa: PLC0415 (keeps `--help` fast)

    done.behind, done.anew = done.behind or scene.behind, scene.anew
    for alias, each in scene.tampered.items():
        done.tampered[alias] = tampering(alias, each)


async def _judge_traffic(session: Session, scene: "TickContext", done: JudgingRound) -> None:
    """Judge live gates, and roll back who has failed, now or before a run was killed."""
    from runtime.gates.tick import gather_usage, judge_live  # noqa: PLC0415 (`--help` is fast)

    await roll_back_rejected(session, scene, done)
    missing = await gather_usage(scene, session.now)
    judged = await asyncio.to_thread(judge_live, scene, missing)
    await _act_on(session, scene, judged, done)


def office_of(session: Session, through: str = "") -> "EvalContext":
    """Return where this project keeps evaluations, and how versions are asked.

    Args:
        session: The project.
        through: `server` or `gateway`; empty: as declared.

    Raises:
        FleetError: they go through a gateway, and there is none or no secret of its operator.
    """
    from uuid import uuid4  # noqa: PLC0415 (keeps `--help` fast)

    from fleetctl.judge_comparing import objections  # noqa: PLC0415
    from fleetctl.ways import through_gateway  # noqa: PLC0415
    from runtime.evals.context import EvalContext, direct_target  # noqa: PLC0415
    from runtime.evals.store import EvalStore  # noqa: PLC0415
    from runtime.secrets import read_secret  # noqa: PLC0415

    counted = (through or session.fleet().evals.through) == "gateway"
    return EvalContext(
        EvalStore(session.state_dir / "evals"),
        session.now,
        lambda: uuid4().hex[:12],
        session.root,
        lambda reference: read_secret(session.root, reference),
        judge_objection=objections(session),
        resolve_target=through_gateway(session) if counted else direct_target,
    )


async def _take_evaluations(
    session: Session,
    live: "State",
    evaluations: "Evaluations",
    done: JudgingRound,
    until: asyncio.Event | None = None,
) -> None:
    """Write down what evaluations found, and act on it; without the ledger it is queued for it."""
    for key, each in await evaluations.finished(until):
        known = await asyncio.to_thread(session.last_known)
        done.away = done.away or known.away
        scene = await asyncio.to_thread(scene_of, session, live, known.entries)
        _doubt(scene, done)
        if done.behind is not None:  # it waits for the clock
            continue
        scribe = session.scribe(VERDICT_S, why(done))
        if each.entries:
            await asyncio.to_thread(scribe.append, "eval_finished", list(each.entries))
        evaluations.taken(key)
        await _act_on(session, scene, each.judged, done, evaluated=True)


async def _act_on(
    session: Session,
    scene: "TickContext",
    judged: "Sequence[JudgedGate]",
    done: JudgingRound,
    *,
    evaluated: bool = False,
) -> None:
    """Write verdicts down and roll back who has failed, which no ledger that hangs may prevent.

    What was `evaluated` is about versions and bytes, whatever the ledger says now.

    Raises:
        FleetError: FC5107, the verdicts are queued and not in the ledger yet; whoever failed is
            rolled back, and nothing goes on.
    """
    from runtime.gates.tick import write_down  # noqa: PLC0415
    from runtime.ledger.protocol import unanswered  # noqa: PLC0415 (keeps `--help` fast)

    scribe, queued = session.scribe(VERDICT_S, why(done)), ""
    sure = evaluated or done.away is None  # what passes on traffic is for a ledger to say
    judged = [each for each in judged if each.failed or (sure and scene.may_pass(each.trial.alias))]

    def append(kind: str, records: list[dict[str, Any]]) -> None:
        nonlocal queued
        queued = scribe.append(kind, records)

    told = await asyncio.to_thread(write_down, scene, judged, append)
    _tell(each.judged for each in told if each.recorded)
    await roll_back_failed(session, judged, done)
    if queued and done.away is None:
        raise unanswered(f"verdicts could not be written down: {queued}")


async def _undo_drills(session: Session, scene: "TickContext") -> bool:
    """Put routes right that a live drill which was killed has left turned."""
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415
    from runtime.rollback.drill import undo, unfinished  # noqa: PLC0415 (keeps `--help` fast)

    if not list(unfinished(scene.entries)):
        return False
    ledger, gateways = session.ledger(), LocalGateways(session.state_dir, envoys=session.envoys())
    try:
        # Under the lease, which a drill that still runs holds.
        with ledger.lease(f"{session.by} (run {session.run}, reconcile)"):
            for each in unfinished(ledger.read()):
                click.echo(f"Undoes a live drill of {each['alias']} that was killed.", err=True)
                await undo(each, gateways, session.ledger)
    finally:
        await gateways.close()
    return True


def _tell(judged: "Iterable[JudgedGate]") -> None:
    for each in judged:
        finding = each.finding
        text = f"{finding.verdict} {finding.gate} of {each.trial.adapter}"
        click.echo(f"{text} at {each.trial.percent} %: {finding.reason}", err=True)


def _progress(trial: "GateTrial") -> "ReportProgress":
    last = 0

    def tell(done: int, total: int) -> None:
        nonlocal last
        step = done * 4 // total
        if step > last:
            last = step
            click.echo(f"  {trial.adapter}: {done} of {total} answers", err=True)

    return tell
