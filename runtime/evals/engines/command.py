"""The engine `command`: any program that prints our samples as JSON lines.

    evals:
      engine: command
      command: [python, tools/ask.py, "{url}", "{model}", "{golden}"]

A line is `{"item": ID, "answer": TEXT}`, or has `scores` of its own, or an `error`. Without
scores the items' own metrics score the answer.
"""

import string
from collections.abc import Iterable
from pathlib import Path

from fleet.errors import EvalError, problem
from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample, sample_of, scored, to_judge
from runtime.evals.context import EvalContext
from runtime.evals.engines.tool_process import refuse_headers, run_tool, tool_failed
from runtime.evals.judge import judge_client
from runtime.evals.protocol import EngineAnswers, ReportProgress

PLACES = ("url", "model", "golden", "samples", "temperature", "seed", "concurrency")


class CommandEngine:
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
        """Start the program in the project, read what it prints, score what it left unscored."""
        del folder
        refuse_headers("command", target)
        command = fill_command(spec, target, (self._context.root / golden.file).absolute())
        total = len(golden.items) * spec.samples
        report(0, total)
        result = await run_tool(command, self._context.root)
        if result.code:
            raise tool_failed(command[0], f"ended with exit code {result.code}", result.errors)
        samples = []
        try:
            given = read_samples(result.output.splitlines(), golden)
        except ValueError as error:
            raise tool_failed(command[0], f"printed no samples: {error}", result.errors) from None
        judged = any(to_judge(golden.by_id[sample.item]) for sample in given if not sample.scores)
        async with judge_client(spec, self._context.secret, needed=judged) as judge:
            for sample in given:
                item = golden.by_id[sample.item]
                if sample.scores or sample.error:
                    samples.append(sample)
                    continue
                said = await judge.scores(item, sample.answer) if judge else {}
                samples.append(scored(item, sample, said))
        report(len(samples), total)
        return EngineAnswers(tuple(samples), f"command {Path(command[0]).name}")


def fill_command(spec: EvalSpec, target: EvalTarget, golden: Path) -> list[str]:
    """Return the command with its placeholders filled in.

    Raises:
        EvalError: FC4523, none is declared, or it has a placeholder that there is not.
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
        raise EvalError(
            problem(
                "FC4523",
                "No eval command to start",
                f"The engine `command` starts what `evals.command` says, and {what}.",
                hint=f"It may name {', '.join(f'{{{place}}}' for place in PLACES)}.",
            )
        )
    return [part.format(**values) for part in spec.command]


def read_samples(lines: Iterable[str], golden: GoldenSet) -> list[Sample]:
    """Read what a program printed.

    Raises:
        ValueError: a line is no sample, is of an unknown item, or stands twice.
    """
    found: dict[tuple[str, int], Sample] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        sample = sample_of(line, number)
        if sample.item not in golden.by_id:
            raise ValueError(f"line {number}: `{sample.item}` is not in the golden set")
        if (sample.item, sample.sample) in found:
            raise ValueError(f"line {number}: `{sample.item}` has this answer already")
        found[sample.item, sample.sample] = sample
    return list(found.values())
