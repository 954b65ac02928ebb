"""Keep runs on disk: a file per run, and an index of answers that may be used again."""

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import EvalError, did_you_mean, problem
from fleet.evals import (
    EvalRun,
    EvalTarget,
    GoldenSet,
    cache_key,
    decoding_of,
    is_reusable,
    lines_of,
    run_faults,
    run_of,
)
from fleet.spec import EvalSpec
from runtime.files import make_private, plain_text, read_plain, replace_file

_CACHE = "cache"
_RUN = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class EvalStore:
    """The folder `evals` of the state folder.

    <run id>.jsonl    a run: its head, then a line per answer
    cache/<key>       id of a run whose answers may be used again
    """

    folder: Path

    def path(self, run: str) -> Path:
        """Return where a run is kept; a name that is no run's has no file there."""
        return self.folder / f"{run if _RUN.fullmatch(run) else 'no-run'}.jsonl"

    def save(self, run: EvalRun) -> None:
        """Write a run, durable when this returns."""
        content = "".join(f"{line}\n" for line in lines_of(run)).encode()
        make_private(self.folder / _CACHE)
        replace_file(self.path(run.id), content)
        if is_reusable(run.spec) and not run_faults(run) and not run.cached:
            decoding = decoding_of(run.spec)
            key = cache_key(run, run.golden_digest, decoding, run.fingerprints[0])
            replace_file(self.folder / _CACHE / key, run.id.encode())

    def digest(self, run: str) -> str:
        """Return the SHA-256 of a run's file, 64 hex digits."""
        return hashlib.sha256(read_plain(self.path(run))).hexdigest()

    def named(self, beginning: str) -> str:
        """Return the id that begins like that, where a single run does; else the beginning."""
        known = [path.stem for path in self.folder.glob("*.jsonl")]
        like = [run_id for run_id in known if beginning and run_id.startswith(beginning)]
        return like[0] if len(like) == 1 else beginning

    def found(self, run: str) -> EvalRun | None:
        """Return a kept run; None: the run cannot be read."""
        try:
            return self.read(run)
        except (EvalError, OSError):
            return None

    def read(self, run: str) -> EvalRun:
        """Return a kept run.

        Raises:
            EvalError: FC4504, there is no such run; FC4505, its file is damaged.
        """
        path = self.path(run)
        try:
            return run_of(plain_text(path).splitlines())
        except (FileNotFoundError, NotADirectoryError):
            hint = did_you_mean(run, [file.stem for file in self.folder.glob("*.jsonl")])
            detail, command = f"There is no `{path}`.", "fleetctl eval list"
            error = problem("FC4504", "No such evaluation", detail, hint=hint, command=command)
        except ValueError as damage:
            detail = f"`{path}`: {damage}."
            hint = "Run the evaluation again; what the ledger says of it stays."
            error = problem("FC4505", "An evaluation's file is damaged", detail, hint=hint)
        raise EvalError(error)

    def cached(
        self, target: EvalTarget, golden: GoldenSet, spec: EvalSpec, fingerprint: str
    ) -> EvalRun | None:
        """Return an earlier run of the same bytes, set, decoding and engine; None: none counts."""
        if not is_reusable(spec):
            return None
        key = cache_key(target, golden.digest, decoding_of(spec), fingerprint)
        try:
            run = self.read(plain_text(self.folder / _CACHE / key))
        except (OSError, ValueError, EvalError):
            return None
        same = (run.adapter, run.digest) == (target.adapter, target.digest)
        return run if same and not run_faults(run) else None

    def stored(self) -> dict[str, datetime]:
        """Return the times at which the files of runs were written, by run; no file is read."""
        return {
            path.stem: datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for path in self.folder.glob("*.jsonl")
        }

    def size(self, run: str) -> int:
        """Return the bytes of a run's file."""
        return self.path(run).stat().st_size

    def remove(self, runs: Collection[str]) -> None:
        """Delete runs, their entries in the index of answers first."""
        for key in (self.folder / _CACHE).glob("*"):
            if read_plain(key).decode(errors="replace") in runs:
                key.unlink(missing_ok=True)
        for run in runs:
            self.path(run).unlink(missing_ok=True)

    def runs(self) -> Iterator[EvalRun]:
        """Yield every run that can be read, oldest first."""
        runs = (self.found(path.stem) for path in self.folder.glob("*.jsonl"))
        yield from sorted(filter(None, runs), key=lambda run: (run.finished, run.id))
