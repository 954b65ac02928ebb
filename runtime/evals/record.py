"""Write a run down where others look for it: the ledger, and the version's own folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.evals.due import Record, baseline, records
from fleet.evals.plain import run_of
from fleet.evals.run import EvalRun
from fleet.evals.summary import changed, summary
from fleet.gates.intervals import wilson
from fleet.names import AdapterName
from runtime.durable import replace_file
from runtime.evals.store import EvalStore
from runtime.ledger.protocol import Ledger
from runtime.library.digest import folder_digest
from runtime.library.layout import EVALS, version_folder

READABLE = 0o644


def record(
    run: EvalRun, store: EvalStore, ledger: Ledger, library: Path, serving: str = ""
) -> dict[str, Any]:
    """Append `eval_finished` and keep the result beside the version; return the summary.

    Args:
        run: What was found; it may be one that does not count, which is written down too.
        store: Where its answers are.
        ledger: Where it is written down.
        library: Holds the version's folder; one with other bytes is left alone.
        serving: Which engine with which flags answered, for the next to compare with.
    """
    told = _told(run, serving)
    first = _after_training(run, ledger)
    if first is not None:
        before = _intact(first, run, store, library)
        if before is not None and before.spec.decoding() != run.spec.decoding():
            told["not_compared"] = f"it was asked in another way than {before.id}"
        elif before is not None:
            told |= {"compared": changed(before, run), "compared_with": before.id}
        else:
            told["not_compared"] = f"the answers of {first.run} are gone or were changed"
    entry = {
        "run": run.id,
        "alias": run.alias,
        "adapter": run.adapter,
        "purpose": run.purpose,
        "summary": told,
        "samples_sha256": store.digest(run.id),
        "path": str(store.path(run.id)),
    }
    ledger.append("eval_finished", [entry])
    if told["valid"]:
        _beside_the_version(run, told, store, library, first=first is None)
    return entry


def _told(run: EvalRun, serving: str) -> dict[str, Any]:
    return summary(run) | {
        "golden": run.golden,
        "golden_digest": run.golden_digest,
        "digest": run.digest,
        "fingerprint": run.fingerprints[0] if len(run.fingerprints) == 1 else "",
        "engine": run.engine_version,
        "decoding": run.spec.decoding(),
        "serving": serving,
        "cached": run.cached,
        "seconds": round((run.finished - run.started).total_seconds(), 1),
    }


def _after_training(run: EvalRun, ledger: Ledger) -> Record | None:
    """Return the version's first anchor run on the same set, if this is not it."""
    if run.purpose not in {"anchor", "aa"}:
        return None
    past = records(ledger.read()).get(run.alias, [])
    return baseline(past, run.adapter, run.golden_digest)


def _intact(first: Record, run: EvalRun, store: EvalStore, library: Path) -> EvalRun | None:
    """Return a run whose bytes are those in the ledger, from the store or from the library."""
    places = [store.path(first.run)]
    try:
        folder = version_folder(library, AdapterName.parse(run.adapter)) / EVALS
        places.append(folder / f"{Path(run.golden).stem}.after_training.jsonl")
    except ValueError:
        pass
    for place in places:
        try:
            content = place.read_bytes()
            if hashlib.sha256(content).hexdigest() == first.samples_sha256:
                return run_of(content.decode().splitlines())
        except (OSError, ValueError):
            continue
    return None


def _beside_the_version(
    run: EvalRun, told: Mapping[str, Any], store: EvalStore, library: Path, *, first: bool
) -> None:
    """Keep the figures in `evals/` of the version, and of its first run the answers as well.

    The first anchor run is the result after training, which nothing overwrites.
    """
    try:
        folder = version_folder(library, AdapterName.parse(run.adapter))
    except ValueError:
        return
    if not folder.is_dir() or (run.digest and folder_digest(folder) != run.digest):
        return
    stem = Path(run.golden).stem
    after_training = first and run.purpose == "anchor"
    name = f"{stem}.after_training" if after_training else f"{stem}.{run.purpose}"
    target = folder / EVALS / f"{name}.json"
    if after_training and target.exists():
        return
    low, high = wilson(float(told["correct"]), float(told["n"]))
    page = {
        "metric": "accuracy",
        **{key: told[key] for key in ("n", "correct", "accuracy", "format", "hallucination_rate")},
        "accuracy_95_percent": [round(low, 4), round(high, 4)],
        "golden": run.golden,
        "golden_sha256": run.golden_digest,
        "evaluated_on": told["fingerprint"] or told["serving"],
        "engine": run.engine_version,
        "decoding": told["decoding"],
        "run": run.id,
        "finished": run.finished.isoformat(timespec="seconds"),
    }
    target.parent.mkdir(exist_ok=True)
    replace_file(target, (json.dumps(page, indent=2) + "\n").encode(), READABLE)
    if after_training:
        answers = store.path(run.id).read_bytes()
        replace_file(target.with_suffix(".jsonl"), answers, READABLE)
