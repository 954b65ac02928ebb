"""Evaluate a version or a pair: request answers, score and store them, check that they count."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.errors import EvalError, problem
from fleet.evals import (
    EvalRun,
    EvalSpec,
    EvalTarget,
    GoldenSet,
    Purpose,
    in_pairs,
    pair_faults,
    run_faults,
    spelled_as_utf8,
)
from runtime.evals.context import EvalContext
from runtime.evals.engines import engine_named
from runtime.evals.judge import pairwise
from runtime.evals.probe import probe
from runtime.evals.protocol import ReportProgress, report_nothing


async def evaluate(
    target: EvalTarget,
    golden: GoldenSet,
    spec: EvalSpec,
    context: EvalContext,
    *,
    purpose: Purpose = "gate",
    reuse: bool = False,
    beside: bool = False,
    report: ReportProgress = report_nothing,
) -> EvalRun:
    """Evaluate a version on a golden set and store the run.

    Returns a run that may not count: see `fleet.evals.summary.faults`.

    Args:
        target: The version, and the server or gateway that answers.
        golden: The golden set.
        spec: Engine, decoding and limits.
        context: Store, clock and ids.
        purpose: Recorded with the run.
        reuse: Whether answers of an earlier run of the same bytes, set, decoding and engine are
            taken.
        beside: Whether another version is asked the same, so that answers can be compared.
        report: Takes the progress.

    Raises:
        EvalError: no server answers under the name, or the engine failed as a whole.
    """
    if not beside and any(map(in_pairs, golden.items)):
        raise _alone(golden)
    engine = engine_named(spec.engine, context)
    if not target.fixed:
        target = context.resolve_target(target)
    started = context.now()
    before = await probe(target)
    found = context.store.cached(target, golden, spec, before.fingerprint) if reuse else None
    if found is not None:
        again = replace(
            found, id=context.new_id(), purpose=purpose, alias=target.alias, cached=True
        )
        context.store.save(again)
        return again
    with TemporaryDirectory(prefix="fleetctl-eval-") as folder:
        got = await engine.run(target, golden, spec, Path(folder), report)
    after = await probe(target)
    if before != after:
        raise EvalError(
            problem(
                "FC4502",
                "The engine changed during the evaluation",
                f"`{target.model}` was answered by {before.fingerprint or 'one engine'} at first "
                f"and by {after.fingerprint or 'another'} at the end; the scores prove nothing.",
                hint="Run it again when the server is settled.",
            )
        )
    samples = tuple(
        replace(sample, error=spelled_as_utf8(sample.error))
        if sample.error
        else replace(
            sample,
            model=spelled_as_utf8(sample.model or before.model),
            fingerprint=spelled_as_utf8(sample.fingerprint or before.fingerprint),
            note=spelled_as_utf8(sample.note),  # may be told in the ledger, as the answer is not
        )
        for sample in got.samples
    )
    run = EvalRun(
        id=context.new_id(),
        alias=target.alias,
        adapter=target.adapter,
        digest=target.digest,
        purpose=purpose,
        golden=golden.file,
        golden_digest=golden.digest,
        items=tuple(item.id for item in golden.items),
        must_pass=golden.must_pass,
        spec=spec,
        engine_version=got.version,
        samples=samples,
        started=started,
        finished=context.now(),
        serving=target.serving,
    )
    context.store.save(run)
    return run


async def evaluate_pair(
    stable: EvalTarget,
    canary: EvalTarget,
    golden: GoldenSet,
    spec: EvalSpec,
    context: EvalContext,
    *,
    purpose: Purpose = "gate",
    report: ReportProgress = report_nothing,
) -> tuple[EvalRun, EvalRun]:
    """Evaluate two versions on one golden set; stable's answers may be those of an earlier run.

    Raises:
        EvalError: FC4503 with every reason why the pair proves nothing. Never a verdict.
    """
    totals = [0, 0]

    def share(arm: int) -> ReportProgress:
        def told(done: int, total: int) -> None:
            totals[arm] = done
            report(sum(totals), 2 * total)

        return told

    first = await evaluate(
        stable, golden, spec, context, purpose=purpose, reuse=True, beside=True, report=share(0)
    )
    second = await evaluate(
        canary, golden, spec, context, purpose=purpose, beside=True, report=share(1)
    )
    wrong = pair_faults(first, second)
    if wrong:
        raise proves_nothing(f"`{stable.adapter}` beside `{canary.adapter}`", wrong)
    if any(map(in_pairs, golden.items)):
        return await pairwise(first, second, golden, spec, context)
    return first, second


def _alone(golden: GoldenSet) -> EvalError:
    return EvalError(
        problem(
            "FC4512",
            "The golden set compares two versions",
            f"`{golden.file}` has items on which a judge says which of two answers is better.",
            hint="A gate asks them, when a new version is tried. To evaluate one version, use "
            "another set.",
        )
    )


def required(run: EvalRun) -> EvalRun:
    """Return the run if it counts.

    Raises:
        EvalError: FC4503, the run does not count.
    """
    wrong = run_faults(run)
    if wrong:
        raise proves_nothing(f"`{run.adapter}`", wrong)
    return run


def proves_nothing(what: str, reasons: tuple[str, ...]) -> EvalError:
    """Return the error of a run that does not count."""
    return EvalError(
        problem(
            "FC4503",
            "The evaluation does not count",
            f"{what}: {'; '.join(reasons)}.",
            hint="It is neither a pass nor a failure. See to the cause and run it again; "
            "`max_missing` allows for items that stay unanswered.",
        )
    )
