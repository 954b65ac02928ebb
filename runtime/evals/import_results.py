"""Import the results of another tool as a run."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from fleet.codec import decode_json
from fleet.errors import EvalError
from fleet.evals import (
    EvalRun,
    EvalSpec,
    Purpose,
    inspect_samples,
    inspect_version,
    lm_eval_samples,
    numbered,
    questions,
)
from runtime.evals.context import EvalContext
from runtime.evals.evaluate import required
from runtime.evals.tool_process import interpreter, run_tool, tool_failed
from runtime.files import read_text


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
