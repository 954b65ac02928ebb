"""Exports captured requests and answers as golden or training items."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.evals import EXPORTS, CapturedText, GoldenSet
from runtime.usage.captured import read_captured, request_of


def export_captured(
    state_dir: Path,
    client: str,
    form: str,
    alias: str | None,
    since: datetime,
    beside: GoldenSet | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Return a client's items without repetitions, and the number of requests left out.

    `form` is a name of `EXPORTS`. A request is left out that holds more than text, or that the
    golden set `beside` asks. Golden items of a user, or of a session, are a group.
    """
    items: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    known = {_question(item.messages, item.prompt) for item in (beside.items if beside else ())}
    left_out = 0
    for found in read_captured(state_dir, client):
        if alias in {None, found.alias} and datetime.fromisoformat(found.time) >= since:
            request = request_of(found)
            text = CapturedText(found.request_id, request, found.answer, found.output_tokens)
            item, who = EXPORTS[form](text), found.user or found.session
            group = first.setdefault(who, found.request_id) if who else ""
            if item is None or _question(item.get("messages", ()), item.get("prompt", "")) in known:
                left_out += 1
            else:
                if form == "golden" and group:
                    item["group"] = group
                items.setdefault(json.dumps({**item, "id": "", "group": ""}, sort_keys=True), item)
    return [*items.values()], left_out


def _question(messages: Iterable[Mapping[str, Any]], prompt: str) -> str:
    return json.dumps([[*messages], prompt], sort_keys=True)
