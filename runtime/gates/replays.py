"""Reads the newest captured requests of a client, to ask both versions before any traffic.

Only of a client that agreed to `capture`. The answers of such an evaluation are scored and then
dropped: captured text stands in no other file.
"""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import Final

from fleet.errors import EvalError
from fleet.evals import (
    NATIVE,
    CapturedText,
    EvalSpec,
    GoldenItem,
    GoldenSet,
    replayed,
)
from fleet.gates import LEAST_ITEMS
from fleet.names import client_of
from fleet.policies import NEWEST
from fleet.spec import FleetSpec
from runtime.evals.context import EvalContext
from runtime.usage.captured import read_captured, request_of

NAME: Final = "captured"
"""The name of the requests in the place of a golden set's path."""
MOST_OF_USER: Final = 5
"""Upper bound of the requests of a user, or of a session, so that many users are asked for."""
USERS_ALIKE: Final = 0.2
"""How alike requests of a user are taken to be: less than items that were written about a document.

`make bench-gates` prints what verdicts are good for with requests that are so alike.
"""
UNANSWERED: Final = 20
"""Requests of which a single request may stay unanswered, such as a prompt that is too long."""


def read_replays(evals: EvalContext, fleet: FleetSpec, alias: str) -> GoldenSet:
    """Return the newest captured requests of an alias; each expects the answer of its time.

    A repeated request is asked once, and requests of a user, or of a session, are a group.

    Raises:
        EvalError: FC4537, fewer requests than a verdict needs.
    """
    client = client_of(alias)
    agreed = fleet.clients[client].capture is not None
    items: dict[str, GoldenItem] = {}
    first: dict[str, str] = {}
    members: Counter[str] = Counter()
    asked = hashlib.sha256()
    for found in read_captured(evals.state_dir, client, newest_first=True) if agreed else ():
        who = found.user or found.session
        group = first.get(who, found.request_id) if who else ""
        if found.alias != alias or (group and members[group] == MOST_OF_USER):
            continue
        text = CapturedText(found.request_id, request_of(found), found.answer, found.output_tokens)
        item = replayed(text, group)
        question = json.dumps([item.messages, item.prompt]) if item else ""
        if item is None or question in items:
            continue
        items[question] = item
        members[group] += 1
        first.setdefault(who, group)
        asked.update(f"{question}{found.answer}".encode())
        if len(items) == NEWEST:
            break
    if len(items) < LEAST_ITEMS:
        raise _too_few(client, alias, len(items), agreed=agreed)
    by_id = {item.id: item for item in items.values()}
    return GoldenSet(NAME, asked.hexdigest(), tuple(by_id.values()), by_id)


def replay_spec(spec: EvalSpec, items: int) -> EvalSpec:
    """Return the way in which captured requests are asked."""
    return replace(spec, engine=NATIVE, max_missing=max(spec.max_missing, items // UNANSWERED))


def _too_few(client: str, alias: str, number: int, *, agreed: bool) -> EvalError:
    why = f"{number} captured requests of `{alias}` can be asked again, and {LEAST_ITEMS} must be"
    hint = "Wait until more are captured, or name prompts: `golden: golden/FILE.jsonl` on the gate."
    if not agreed:
        why = f"`{client}` has not agreed to `capture`, so that none of its requests is kept"
        hint = 'Declare the consent: `capture: {consent: "WHO, WHEN"}`.'
    return EvalError.of("FC4537", "Too few captured requests", f"{why}.", hint=hint)
