"""Runs kept on disk: one file each, and an index of answers that may be used again."""

import hashlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import EvalError, did_you_mean, problem
from fleet.evals import (
    EvalRun,
    EvalSpec,
    EvalTarget,
    GoldenSet,
    cache_key,
    lines_of,
    run_faults,
    run_of,
)
from runtime.files import replace_file

_CACHE = "cache"


class EvalStore:
    """The folder `evals` of the state folder.

    <run id>.jsonl    a run: its head, then a line for each answer
    cache/<key>       id of a run whose answers may be used again
    """

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing is read or written."""
        self.folder = folder

    def path(self, run: str) -> Path:
        """Return where a run is kept."""
        return self.folder / f"{run}.jsonl"

    def save(self, run: EvalRun) -> None:
        """Write a run, durable when this returns."""
        content = "".join(f"{line}\n" for line in lines_of(run)).encode()
        (self.folder / _CACHE).mkdir(parents=True, exist_ok=True)
        replace_file(self.path(run.id), content)
        if run.spec.reusable and not run_faults(run) and not run.cached:
            decoding = run.spec.decoding()
            key = cache_key(run, run.golden_digest, decoding, run.fingerprints[0])
            replace_file(self.folder / _CACHE / key, run.id.encode())

    def digest(self, run: str) -> str:
        """Return the SHA-256 of a run's file, 64 hex digits."""
        return hashlib.sha256(self.path(run).read_bytes()).hexdigest()

    def named(self, beginning: str) -> str:
        """Return the run whose id begins like that, where one alone does; else what was given."""
        known = [path.stem for path in self.folder.glob("*.jsonl")]
        like = [run_id for run_id in known if beginning and run_id.startswith(beginning)]
        return like[0] if len(like) == 1 else beginning

    def found(self, run: str) -> EvalRun | None:
        """Return a kept run, or nothing where it cannot be read."""
        try:
            return self.read(run)
        except (EvalError, OSError):
            return None

    def read(self, run: str) -> EvalRun:
        """Return a kept run.

        Raises:
            EvalError: FC4504 there is none, FC4505 its file is damaged.
        """
        path = self.path(run)
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            known = [file.stem for file in self.folder.glob("*.jsonl")]
            detail = f"There is no `{path}`."
            hint = did_you_mean(run, known)
            raise EvalError(
                problem(
                    "FC4504", "No such evaluation", detail, hint=hint, command="fleetctl eval list"
                )
            ) from None
        except UnicodeDecodeError as error:
            raise _damaged(path, str(error)) from None
        try:
            return run_of(text.splitlines())
        except ValueError as error:
            raise _damaged(path, str(error)) from None

    def cached(
        self, target: EvalTarget, golden: GoldenSet, spec: EvalSpec, fingerprint: str
    ) -> EvalRun | None:
        """Return an earlier run of the same bytes, set, decoding and engine; None: none counts."""
        if not spec.reusable:
            return None
        key = cache_key(target, golden.digest, spec.decoding(), fingerprint)
        try:
            found = self.read((self.folder / _CACHE / key).read_text(encoding="utf-8"))
        except (OSError, EvalError):
            return None
        same = (found.adapter, found.digest) == (target.adapter, target.digest)
        return found if same and not run_faults(found) else None

    def stored(self) -> dict[str, datetime]:
        """Return when each run's file was written, by run; files are not read."""
        return {
            path.stem: datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for path in self.folder.glob("*.jsonl")
        }

    def size(self, run: str) -> int:
        """Return the bytes of a run's file."""
        return self.path(run).stat().st_size

    def remove(self, runs: Collection[str]) -> None:
        """Delete runs, first what says that their answers may be used again."""
        for key in (self.folder / _CACHE).glob("*"):
            if key.read_text(encoding="utf-8") in runs:
                key.unlink(missing_ok=True)
        for run in runs:
            self.path(run).unlink(missing_ok=True)

    def runs(self) -> Iterator[EvalRun]:
        """Yield every run that can be read, oldest first."""
        found = (self.found(path.stem) for path in self.folder.glob("*.jsonl"))
        yield from sorted(filter(None, found), key=lambda run: (run.finished, run.id))


def _damaged(path: Path, detail: str) -> EvalError:
    return EvalError(
        problem(
            "FC4505",
            "An evaluation's file is damaged",
            f"`{path}`: {detail}.",
            hint="Run the evaluation again; what the ledger says of it stays.",
        )
    )
