"""Record a run in the ledger and in the version's own folder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.evals import (
    EvalRecord,
    EvalRun,
    baseline,
    changed_answers,
    eval_records,
    first_result,
    latest_anchor,
    run_of,
    summarize,
)
from fleet.gates import wilson
from fleet.history import Document, EvalFinished
from fleet.names import AdapterName
from runtime.evals.store import EvalStore
from runtime.files import PUBLIC, replace_file
from runtime.ledger.protocol import Ledger
from runtime.library.layout import EVALS, folder_digest, version_folder

THE_FIRST = "; later runs are held against this one"


def record(
    run: EvalRun, store: EvalStore, ledger: Ledger, library: Path, serving: str = ""
) -> EvalFinished:
    """Append `eval_finished` and keep the result beside the version; return the event.

    Made-up answers, of the fake engine, are kept nowhere but in the ledger: a library outlives
    the trial. They are compared with their like alone.

    Args:
        run: What was found; it may be one that does not count, which is written down too.
        store: Where its answers are.
        ledger: Where it is written down.
        library: Holds the version's folder; one with other bytes is left alone.
        serving: Which engine with which flags answered, for the next to compare with.
    """
    compared: dict[str, Any] = {}
    past = _past(run, ledger)
    first = _compared_with(run, past)
    before = _intact(first, run, store, library) if first else None
    if before is not None and before.spec.decoding() != run.spec.decoding():
        compared["not_compared"] = f"it was asked in another way than {before.id}{THE_FIRST}"
    elif before is not None:
        compared = {"compared": changed_answers(before, run), "compared_with": before.id}
    elif first is not None:
        compared["not_compared"] = f"the answers of {first.run} are gone or were changed"
    elif run.purpose == "anchor" and (old := first_result(past, run.adapter, run.golden)):
        compared["not_compared"] = f"{run.golden} was changed since {old.run}{THE_FIRST}"
    event = eval_event(run, store, serving, compared)
    ledger.append([event])
    if event.summary["valid"] and not run.made_up:
        beside_the_version(run, store, library)
        if run.purpose == "anchor" and (first is None or before is not None):
            beside_the_version(before or run, store, library, after_training=True)
    return event


def eval_event(
    run: EvalRun, store: EvalStore, serving: str = "", compared: Document | None = None
) -> EvalFinished:
    """Return the event of a run for the ledger; `compared` is more of its summary."""
    return EvalFinished(
        run.id,
        run.alias,
        run.adapter,
        run.purpose,
        {**_told(run, serving), **(compared or {})},
        store.digest(run.id),
        str(store.path(run.id).relative_to(store.folder.parent)),
    )


def _told(run: EvalRun, serving: str) -> dict[str, Any]:
    return summarize(run) | {
        "golden": run.golden,
        "golden_digest": run.golden_digest,
        "digest": run.digest,
        "fingerprint": run.fingerprints[0] if len(run.fingerprints) == 1 else "",
        "engine": run.engine_version,
        "decoding": run.spec.decoding(),
        "serving": serving,
        "cached": run.cached,
        "made_up": run.made_up,
        "seconds": round((run.finished - run.started).total_seconds(), 1),
    }


def _past(run: EvalRun, ledger: Ledger) -> list[EvalRecord]:
    past = eval_records(ledger.read()).get(run.alias, [])
    return [entry for entry in past if entry.made_up == run.made_up]


def _compared_with(run: EvalRun, past: Sequence[EvalRecord]) -> EvalRecord | None:
    """Return what a run is held against: an anchor run its version's result after training.

    Stable against itself is held against the anchor run just before, so that what has drifted
    since the training is not taken for noise.
    """
    match run.purpose:
        case "anchor":
            return baseline(past, run.adapter, run.golden_digest, run.spec.decoding())
        case "aa":
            return latest_anchor(past, run.adapter, run.golden_digest)
        case "gate" | "rolling" | "smoke":
            return None


def _intact(first: EvalRecord, run: EvalRun, store: EvalStore, library: Path) -> EvalRun | None:
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


def beside_the_version(
    run: EvalRun, store: EvalStore, library: Path, *, after_training: bool = False
) -> None:
    """Keep a run's figures in `evals/` of its version, where the bytes are those that answered.

    With `after_training` under a name that nothing overwrites, and with every answer.
    """
    try:
        folder = version_folder(library, AdapterName.parse(run.adapter))
    except ValueError:
        return
    if not folder.is_dir() or (run.digest and folder_digest(folder) != run.digest):
        return
    name = f"{Path(run.golden).stem}.{'after_training' if after_training else run.purpose}"
    target = folder / EVALS / f"{name}.json"
    if after_training and target.exists():
        return
    told = _told(run, "")
    low, high = wilson(float(told["correct"]), float(told["n"]))
    page = {
        "metric": "accuracy",
        **{key: told[key] for key in ("n", "correct", "accuracy", "format", "hallucination_rate")},
        "accuracy_95_percent": [round(low, 4), round(high, 4)],
        "golden": run.golden,
        "golden_sha256": run.golden_digest,
        "evaluated_on": told["fingerprint"],
        "engine": run.engine_version,
        "decoding": told["decoding"],
        "run": run.id,
        "finished": run.finished.isoformat(timespec="seconds"),
    }
    target.parent.mkdir(exist_ok=True)
    if after_training:
        answers = store.path(run.id).read_bytes()
        replace_file(target.with_suffix(".jsonl"), answers, PUBLIC)
    replace_file(target, (json.dumps(page, indent=2) + "\n").encode(), PUBLIC)
