"""Record a run in the ledger and in the version's own folder."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fleet.codec import decode_json
from fleet.evals import (
    AFTER_TRAINING,
    EvalRecord,
    EvalRun,
    QualityLevel,
    baseline,
    changed_answers,
    decoding_of,
    eval_records,
    far_below,
    first_result,
    latest_anchor,
    run_of,
    summarize,
)
from fleet.gates import wilson
from fleet.history import Document, EvalFinished
from fleet.names import AdapterName
from runtime.evals.store import EvalStore
from runtime.files import PUBLIC, read_plain, replace_file
from runtime.ledger.protocol import Ledger
from runtime.library.layout import EVALS, folder_digest, version_folder

_FIGURES = ("n", "correct", "accuracy", "format", "hallucination_rate")
THE_FIRST = "; later runs are held against this one"


def record(
    run: EvalRun, store: EvalStore, ledger: Ledger, library: Path, serving: str = ""
) -> EvalFinished:
    """Append `eval_finished` and keep the result beside the version; return the event.

    Made-up answers, of the fake engine, are kept in the ledger alone: a library outlives the
    trial. They are compared with other made-up answers alone.

    A run that does not count is recorded too. A folder of the version with other bytes is left
    alone. `serving` is the identity of the engine and flags that answered.
    """
    compared: dict[str, Any] = {}
    past = [
        entry for entry in eval_records(ledger.read()).get(run.alias, ())
        if entry.made_up == run.made_up
    ]  # fmt: skip
    first = _compared_with(run, past)
    before = _intact(first, run, store, library) if first else None
    if before is not None and decoding_of(before.spec) != decoding_of(run.spec):
        compared["not_compared"] = f"it was asked in another way than {before.id}{THE_FIRST}"
    elif before is not None:
        compared = {"compared": changed_answers(before, run), "compared_with": before.id}
    elif first is not None:
        compared["not_compared"] = f"the answers of {first.run} are gone or were changed"
    elif run.purpose == "anchor" and (old := first_result(past, run.adapter, run.golden)):
        compared["not_compared"] = f"{run.golden} was changed since {old.run}{THE_FIRST}"
    own = None if run.made_up or run.purpose not in AFTER_TRAINING else _library_level(run, library)
    low = False
    if own is not None:
        compared["library"] = {"good": own.good, "n": own.n}
        level = EvalRecord(run.id, "", "", "", summarize(run), run.finished).level()
        low = level is not None and far_below(own, level)
    event = eval_event(run, store, serving, compared)
    ledger.append([event])
    if event.summary["valid"] and not run.made_up and not low:
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
        {**_summary(run, serving), **(compared or {})},
        store.digest(run.id),
        str(store.path(run.id).relative_to(store.folder.parent)),
    )


def _summary(run: EvalRun, serving: str) -> dict[str, Any]:
    return summarize(run) | {
        "golden": run.golden,
        "golden_digest": run.golden_digest,
        "digest": run.digest,
        "fingerprint": run.fingerprints[0] if len(run.fingerprints) == 1 else "",
        "engine": run.engine_version,
        "decoding": decoding_of(run.spec),
        "serving": serving,
        "cached": run.cached,
        "made_up": run.made_up,
        "seconds": round((run.finished - run.started).total_seconds(), 1),
    }


def _compared_with(run: EvalRun, past: Sequence[EvalRecord]) -> EvalRecord | None:
    """Return the record to compare a run with: of an anchor run, the result after training.

    Stable against itself is compared with the anchor run just before, so that drift since the
    training is not taken for noise.
    """
    match run.purpose:
        case "anchor":
            return baseline(past, run.adapter, run.golden_digest, decoding_of(run.spec))
        case "aa":
            return latest_anchor(past, run.adapter, run.golden_digest)
        case "gate" | "rolling" | "smoke" | "replay":
            return None


def _intact(first: EvalRecord, run: EvalRun, store: EvalStore, library: Path) -> EvalRun | None:
    """Return a run with the digest in the ledger, from the store or from the library."""
    places = [store.path(first.run)]
    if folder := _version_folder(run, library):
        places.append(folder / EVALS / f"{Path(run.golden).stem}.after_training.jsonl")
    for place in places:
        try:
            content = read_plain(place)
            if hashlib.sha256(content).hexdigest() == first.samples_sha256:
                return run_of(content.decode().splitlines())
        except (OSError, ValueError):
            continue
    return None


def _library_level(run: EvalRun, library: Path) -> QualityLevel | None:
    """Return the accuracy of the library's own evaluation on the run's set; None: there is none.

    A page in `evals/` that came with the version: fleetctl's own pages name their run.
    """
    folder = _version_folder(run, library)
    for path in sorted((folder / EVALS).glob("*.json")) if folder else ():
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            page = decode_json(read_plain(path))
            own = "run" not in page and page.get("golden_sha256") == run.golden_digest
            if own and int(page["n"]) > 0:
                return QualityLevel(float(page["accuracy"]) * int(page["n"]), int(page["n"]))
    return None


def _version_folder(run: EvalRun, library: Path) -> Path | None:
    try:
        return version_folder(library, AdapterName.parse(run.adapter))
    except ValueError:  # a base answered
        return None


def beside_the_version(
    run: EvalRun, store: EvalStore, library: Path, *, after_training: bool = False
) -> None:
    """Keep a run's figures in `evals/` of its version, where the version's bytes answered.

    With `after_training` under a name that nothing overwrites, and with every answer.
    """
    folder = _version_folder(run, library)
    if not folder or not folder.is_dir() or (run.digest and folder_digest(folder) != run.digest):
        return
    name = f"{Path(run.golden).stem}.{'after_training' if after_training else run.purpose}"
    target = folder / EVALS / f"{name}.json"
    if after_training and target.exists():
        return
    figures = _summary(run, "")
    low, high = wilson(float(figures["correct"]), float(figures["n"]))
    page = {
        "metric": "accuracy",
        **{key: figures[key] for key in _FIGURES},
        "accuracy_95_percent": [round(low, 4), round(high, 4)],
        "golden": run.golden,
        "golden_sha256": run.golden_digest,
        "evaluated_on": figures["fingerprint"],
        "engine": run.engine_version,
        "decoding": figures["decoding"],
        "run": run.id,
        "finished": run.finished.isoformat(timespec="seconds"),
    }
    target.parent.mkdir(exist_ok=True)
    if after_training:
        answers = read_plain(store.path(run.id))
        replace_file(target.with_suffix(".jsonl"), answers, PUBLIC)
    replace_file(target, (json.dumps(page, indent=2) + "\n").encode(), PUBLIC)
