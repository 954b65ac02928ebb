"""Are the answers behind a verdict still those that it was computed from?"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleet.history import Entry
from runtime.evals import EvalStore


def changed_runs(entries: Iterable[Entry], state_dir: Path) -> Iterator[tuple[str, str]]:
    """Yield each evaluation whose file is not as the ledger says, and what is wrong with it.

    A file that is gone is no proof of anything: the counts stand in the ledger.
    """
    for entry in entries:
        if entry.kind != "eval_finished":
            continue
        path = EvalStore(state_dir / "evals").path(str(entry.data["run"]))
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue
        if found != entry.data["samples_sha256"]:
            yield str(entry.data["run"]), f"`{path}` was changed after it was written"
