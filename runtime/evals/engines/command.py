"""Runs the engine `command`: any program that prints samples as JSON lines.

    evals:
      engine: command
      command: [python, tools/ask.py, "{url}", "{model}", "{golden}"]

A line is `{"item": ID, "answer": TEXT}`, or has `scores` of its own, or an `error`. Without
scores the item's metrics score the answer.
"""

import string
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from fleet.errors import EvalError
from fleet.evals import EvalTarget, GoldenSet, Sample, sample_of, scored, to_judge
from fleet.spec import EvalSpec
from runtime.evals.context import EngineAnswers, EngineJob
from runtime.evals.judge import judge_client
from runtime.evals.tool_process import refuse_headers, refuse_tls, run_tool, tool_failed
from runtime.json_client import SERVER_KEYS


async def run_command(job: EngineJob) -> EngineAnswers:
    """Start the program in the project, read its samples, score the samples without scores."""
    golden, spec, root = job.golden, job.spec, job.context.root
    refuse_headers("command", job.target)
    refuse_tls("command", job.target)
    command = fill_command(spec, job.target, (root / golden.file).absolute())
    program = next((word for word in command if not word.startswith("env:")), command[0])
    job.report(0, job.total)
    key = SERVER_KEYS.get(job.target.url)
    result = await run_tool(command, root, {"FLEETCTL_KEY": key} if key else None)
    if result.code:
        raise tool_failed(program, f"ended with exit code {result.code}", result.errors)
    try:
        samples = read_samples(result.output.splitlines(), golden)
    except ValueError as error:
        raise tool_failed(program, f"printed no samples: {error}", result.errors) from None
    judged = any(to_judge(golden.by_id[sample.item]) for sample in samples if not sample.scores)
    async with judge_client(spec, job.context.secret) if judged else nullcontext() as judge:
        for position, sample in enumerate(samples):
            item = golden.by_id[sample.item]
            if not sample.scores and not sample.error:
                scores = await judge.scores(item, sample.answer) if judge else {}
                samples[position] = scored(item, sample, scores)
    job.report(len(samples), job.total)
    return tuple(samples), f"command {Path(program).name}"


def fill_command(spec: EvalSpec, target: EvalTarget, golden: Path) -> list[str]:
    """Return the command with its placeholders filled in.

    Raises:
        EvalError: FC4523, no command is declared, or the command has an unknown placeholder.
    """
    values = {
        "url": target.url, "model": target.model, "golden": golden, "samples": spec.samples,
        "temperature": spec.temperature, "seed": spec.seed, "concurrency": spec.concurrency,
    }  # fmt: skip
    names = {
        name for part in spec.command for _, name, _, _ in string.Formatter().parse(part) if name
    }
    unknown = sorted(names - set(values))
    if unknown or not spec.command:
        what = f"`{{{unknown[0]}}}` is no placeholder" if unknown else "none is declared"
        detail = f"The engine `command` starts what `evals.command` says, and {what}."
        hint = f"It may name {', '.join(f'{{{place}}}' for place in values)}."
        raise EvalError.of("FC4523", "No eval command to start", detail, hint=hint)
    return [part.format(**values) for part in spec.command]


def read_samples(lines: Iterable[str], golden: GoldenSet) -> list[Sample]:
    """Read the output of a program.

    Raises:
        ValueError: a line is no sample, is of an unknown item, or stands twice.
    """
    samples: dict[tuple[str, int], Sample] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        sample = sample_of(line, number)
        if sample.item not in golden.by_id:
            raise ValueError(f"line {number}: `{sample.item}` is not in the golden set")
        if (sample.item, sample.sample) in samples:
            raise ValueError(f"line {number}: `{sample.item}` has this answer already")
        samples[sample.item, sample.sample] = sample
    return list(samples.values())
