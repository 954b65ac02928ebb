"""Exports captured requests and answers as golden or training items."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.evals import EXPORTS, CapturedText
from runtime.usage.captured import read_captured, request_of


def export_captured(
    state_dir: Path, client: str, form: str, alias: str | None, since: datetime
) -> tuple[list[dict[str, Any]], int]:
    """Return a client's items without repetitions, and the number of requests left out.

    `form` is a name of `EXPORTS`. A request is left out that holds more than text.
    """
    items: dict[str, dict[str, Any]] = {}
    left_out = 0
    for found in read_captured(state_dir, client):
        if alias in {None, found.alias} and datetime.fromisoformat(found.time) >= since:
            request = request_of(found)
            text = CapturedText(found.request_id, request, found.answer, found.output_tokens)
            if (item := EXPORTS[form](text)) is None:
                left_out += 1
            else:
                items.setdefault(json.dumps({**item, "id": ""}, sort_keys=True), item)
    return [*items.values()], left_out
