"""Defines one line of the ledger, and what each kind of entry holds.

What an entry's `data` holds, by kind; `address` is the resource's, `step` the step's id:

    apply_started   plan_id, trigger (apply, reconcile), commit, steps (their number)
    step_started    plan_id, step, address, operation (plain form)
    step_finished   plan_id, step, address, how (done, adopted, recovered), boot; operation if
                    adopted
    step_failed     plan_id, step, address, code, summary, detail, stale, unsure (of its effect)
    apply_finished  plan_id, result, counts, boots (server to boot id), gone (addresses that
                    are not there, and that nothing asks for any more)
    rolled_back     alias, to, before (version to percent), adapter (held, if any), reason,
                    gate (whose verdict did it, if one did)
    rollback_checked   alias, to, decided, all_gateways_s, smoke_ok_s, smoke, failures
    notified        alias, event, to (whom), delivered, detail; decided, or key (what of)
    drill_started, drilled, drill_undone   alias, target; shares before; what was found
    collected       versions, copies, evaluations (ids; which gc deletes)
    released        alias, adapter (None: all), reason, route (plain form, or None)
    adopted         address, resource (plain form), boot
    note            text; step, of one that was begun and had no effect
    gate_judged     alias, adapter, stable, percent, gate, finding (plain), digests (adapter,
                    stable, base, golden), fingerprint, since (the stage's)
    rollout_marked  alias, adapter, mark (hold, pause, resume, approve, advance, extend,
                    abort), reason, until (of a pause), digest (of the adapter's bytes)
    eval_finished   run, alias, adapter, purpose (gate, anchor, rolling, smoke, aa), summary,
                    samples_sha256, path
    judge_compared  client, url, model, labels, labels_sha256, n, agreed, unparsable, kappa,
                    objection (why it decides no gate; empty: it does)
    retrain_claimed, retrain_released   alias, by, until, reason
    retrain_started   alias, adapter (the new version), command
    retrain_finished  alias, adapter, digest, seconds (None: of an interrupted run)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger; the docstring of this module lists the kinds and their `data`."""

    seq: int
    time: datetime
    kind: str
    run: str
    """Id of the run that wrote it."""
    by: str
    token: int
    data: Mapping[str, Any]
    previous: str
    """Hash of the entry before, empty for the first."""
    hash: str
    format: int | None = None
    """Format of its line, where it is written down."""
