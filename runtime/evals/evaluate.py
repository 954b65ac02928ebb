"""Evaluate a version or a pair: request answers, score, store and check them; import other logs."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.codec import decode_json
from fleet.errors import EvalError, FleetError, did_you_mean
from fleet.evals import (
    ACCURACY,
    FLAWS,
    NATIVE,
    EvalRun,
    EvalTarget,
    GoldenSet,
    Purpose,
    Sample,
    in_pairs,
    inspect_samples,
    inspect_version,
    lm_eval_samples,
    numbered,
    pair_faults,
    questions,
    run_faults,
    spelled_as_utf8,
)
from fleet.spec import EvalSpec
from runtime.evals.context import (
    EngineAnswers,
    EngineJob,
    Enough,
    EvalContext,
    EvalEngine,
    ReportProgress,
    probe,
    report_nothing,
)
from runtime.evals.judge import pairwise
from runtime.evals.tool_process import interpreter, run_tool, tool_failed
from runtime.extensions import SHIPPED, load, unusable, words_of
from runtime.files import read_text


async def _answers(job: EngineJob, package: str) -> EngineAnswers:
    """Ask by the engine of a job; an error of its own kind is one of an evaluation.

    Raises:
        EvalError: as the engine says; FC1340, FC1342, FC1343, an extension cannot be used.
    """
    name = job.spec.engine
    try:
        engine: EvalEngine = load("eval_engines", name, package)
        return await engine(job)
    except EvalError:
        raise
    except Exception as error:
        if not package:
            raise
        if isinstance(error, FleetError):
            raise EvalError(*error.diagnostics) from error
        raise EvalError(*unusable(name, package, words_of(error)).diagnostics) from error


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
    enough: Enough | None = None,
) -> EvalRun:
    """Evaluate a version on a golden set and store the run.

    Returns a run that may not count: see `fleet.evals.run_faults`.

    `reuse`: answers of an earlier run of the same bytes, set, decoding and engine are taken.
    `beside`: another version is asked the same, so that answers can be compared.
    `enough`: as of an engine's job; the run is of the items that were asked.

    Raises:
        EvalError: no server answers under the name, or the engine is unknown or failed as a whole.
    """
    if not beside and any(map(in_pairs, golden.items)):
        detail = f"`{golden.file}` has items on which a judge says which of two answers is better."
        hint = (
            "A gate asks them, when a new version is tried. To evaluate one version, use another "
            "set."
        )
        raise EvalError.of("FC4512", "The golden set compares two versions", detail, hint=hint)
    package, shipped = context.packages.get(spec.engine, ""), SHIPPED["eval_engines"]
    if not package and spec.engine not in shipped:
        known = sorted({*shipped, *context.packages})
        detail = f"`{spec.engine}` is none of {', '.join(known)}."
        hint = did_you_mean(spec.engine, known)
        raise EvalError.of("FC4506", "No such eval engine", detail, hint=hint)
    if not target.fixed:
        target = context.resolve_target(target)
    started = context.now()
    before = await probe(target)
    cached = context.store.cached(target, golden, spec, before.fingerprint) if reuse else None
    if cached is not None:
        again = replace(
            cached, id=context.new_id(), purpose=purpose, alias=target.alias, cached=True
        )
        context.store.save(again)
        return again
    with TemporaryDirectory(prefix="fleetctl-eval-") as folder:
        job = EngineJob(target, golden, spec, context, Path(folder), report, enough)
        answers, version = await _answers(job, package)
    after = await probe(target)
    if before != after:
        detail = (
            f"`{target.model}` was answered by {before.fingerprint or 'one engine'} at first "
            f"and by {after.fingerprint or 'another'} at the end; the scores prove nothing."
        )
        hint = "Run it again when the server is settled."
        raise EvalError.of("FC4502", "The engine changed during the evaluation", detail, hint=hint)
    samples = tuple(
        replace(sample, error=spelled_as_utf8(sample.error))
        if sample.error
        else replace(
            sample,
            model=spelled_as_utf8(sample.model or before.model),
            fingerprint=spelled_as_utf8(sample.fingerprint or before.fingerprint),
            note=spelled_as_utf8(sample.note),  # the ledger may hold notes, but never answers
        )
        for sample in answers
    )
    if purpose == "replay":
        samples = tuple(map(without_text, samples))
    if enough is not None:
        golden = golden.only({sample.item for sample in samples})
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
        engine_version=version,
        samples=samples,
        started=started,
        finished=context.now(),
        serving=target.serving,
        groups=golden.groups or None,
    )
    context.store.save(run)
    return run


async def evaluate_pair(
    stable: EvalTarget,
    canary: EvalTarget,
    golden: GoldenSet,
    spec: EvalSpec,
    context: EvalContext,
    report: ReportProgress = report_nothing,
    *,
    purpose: Purpose = "gate",
    engines_differ: bool = False,
    decided: Callable[[EvalRun, EvalRun], bool] | None = None,
) -> tuple[EvalRun, EvalRun]:
    """Evaluate two versions on a golden set; stable's answers may be those of an earlier run.

    `engines_differ`: a version is compared with itself on another engine.
    `decided`: says of the runs so far whether further answers are needed. The second run may then
    be of fewer items than the first.

    Raises:
        EvalError: FC4503 with every reason why the pair proves nothing. Never a verdict.
    """
    done_before = 0

    def report_both(done: int, total: int) -> None:
        report(done_before + done, 2 * total)

    first = await evaluate(
        stable, golden, spec, context, purpose=purpose, reuse=True, beside=True, report=report_both
    )
    done_before = 0 if first.cached else len(golden.items) * spec.samples
    compared = any(map(in_pairs, golden.items))

    def enough(samples: tuple[Sample, ...]) -> bool:
        asked = {sample.item for sample in samples}
        items = tuple(item for item in first.items if item in asked)
        must_pass = tuple(item for item in first.must_pass if item in asked)
        so_far = replace(first, items=items, must_pass=must_pass, samples=samples)
        return decided is not None and decided(first, so_far)

    second = await evaluate(
        canary,
        golden,
        spec,
        context,
        purpose=purpose,
        beside=True,
        report=report_both,
        enough=enough if decided and spec.engine == NATIVE and not compared else None,
    )
    same = replace(
        first, items=second.items, must_pass=second.must_pass, golden_digest=second.golden_digest
    )
    if wrong := pair_faults(same, second, engines_differ=engines_differ):
        raise proves_nothing(f"`{stable.adapter}` beside `{canary.adapter}`", wrong)
    if compared:
        return await pairwise(first, second, golden, spec, context)
    return first, second


def without_text(sample: Sample) -> Sample:
    """Return a sample without the texts of the model, which may repeat a client's."""
    flaw = sample.note.removeprefix(f"{ACCURACY}: ")
    return replace(sample, answer="", label="", note=flaw if flaw in FLAWS else "")


def required(run: EvalRun) -> EvalRun:
    """Return a run that counts.

    Raises:
        EvalError: FC4503, the run does not count.
    """
    if wrong := run_faults(run):
        raise proves_nothing(f"`{run.adapter}`", wrong)
    return run


def proves_nothing(subject: str, reasons: tuple[str, ...]) -> EvalError:
    """Return the error of a run that does not count."""
    hint = (
        "It is neither a pass nor a failure. See to the cause and run it again; "
        "`max_missing` allows for items that stay unanswered."
    )
    detail = f"{subject}: {'; '.join(reasons)}."
    return EvalError.of("FC4503", "The evaluation does not count", detail, hint=hint)


def import_run(
    path: Path, source: str, *, alias: str, adapter: str, digest: str, purpose: Purpose,
    context: EvalContext, chosen: str = "",
) -> EvalRun:  # fmt: skip
    """Read another tool's results and keep them as a run; `chosen` is a filter of lm-eval.

    Raises:
        EvalError: FC4540, the file has another form, or the tool did not end well; FC4503, an item
            is not scored, or another model answered.
    """
    try:
        if source == "inspect":
            log = _log(path, context)
            samples, version = inspect_samples(log), inspect_version(log)
            golden, digest_of = questions(log.get("samples") or ())
            name = str(log["eval"].get("task", path.stem))
        else:
            lines = read_text(path).splitlines()
            samples, version = numbered(lm_eval_samples(lines, chosen=chosen)), "lm-eval"
            golden, digest_of = questions(decode_json(line) for line in lines if line.strip())
            name = path.stem
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _not_results(path, source, str(error)) from None
    if not samples:
        raise _not_results(path, source, "it holds no sample")
    run = EvalRun(
        id=context.new_id(),
        alias=alias,
        adapter=adapter,
        digest=digest,
        purpose=purpose,
        golden=name,
        golden_digest=digest_of,
        items=golden,
        must_pass=(),
        spec=EvalSpec(engine=source, samples=max(sample.sample for sample in samples) + 1),
        engine_version=f"{version} (imported)",
        samples=tuple(
            # The person who names the version is believed where the tool kept no name.
            sample if sample.model or sample.error else replace(sample, model=adapter)
            for sample in samples
        ),
        started=context.now(),
        finished=context.now(),
    )
    context.store.save(required(run))
    return run


def _log(path: Path, context: EvalContext) -> dict[str, Any]:
    """Return a log; inspect-ai itself unpacks the packed form."""
    if path.suffix != ".eval":
        document = decode_json(read_text(path))
    else:
        python = interpreter("inspect-ai", context.root)
        command = [str(python), "-m", "inspect_ai", "log", "dump", str(path.absolute())]
        result = asyncio.run(run_tool(command, context.root))
        if result.code:
            raise tool_failed("inspect-ai", f"cannot read `{path}`", result.errors)
        document = decode_json(result.output)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (of the file, not the code)
    return document


def _not_results(path: Path, source: str, why: str) -> EvalError:
    hint = (
        "Of lm-eval it takes the file samples_*.jsonl of `--log_samples`, of inspect-ai a log, "
        "`.eval` or `.json`. Nothing was taken over."
    )
    detail = f"`{path}` as of {source}: {why}."
    return EvalError.of("FC4540", "Not the results of a finished evaluation", detail, hint=hint)
