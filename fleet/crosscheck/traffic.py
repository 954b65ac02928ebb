"""What an adapter asks for on the way of its requests: formats and shadows."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.crosscheck.facts import Facts
from fleet.crosscheck.references import Path
from fleet.declarations import Adapter
from fleet.formats import FormatKind, flaw
from fleet.problems import Finding


def check_traffic(at: Path, adapter: Adapter, facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with an adapter's format and shadow."""
    wanted = adapter.format
    if wanted is not None and wanted.kind is FormatKind.SCHEMA and wanted.text in facts.schemas:
        text = facts.schemas[wanted.text]
        hint = "Add the file, or correct the path; it is relative to the project."
        problem = "It is not in the project, or is no text."
        if text is not None:
            hint, problem = "Correct the file.", flaw(replace(wanted, text=text))
        if problem:
            yield Finding("FC1229", (*at, "format"), f"`{wanted.text}`: {problem}", hint=hint)
    if adapter.shadow is None:
        return
    _, client, _, task, *_ = at
    shadow = f"{client}-{task}-{adapter.base}-v{adapter.shadow.version}"
    if shadow not in facts.lock.adapters:
        detail = f"`{shadow}` was never added to the library: its bytes are not pinned."
        command = f"fleetctl adapter add PATH --as {shadow}"
        yield Finding("FC1210", (*at, "shadow", "version"), detail, command=command)
    if adapter.shadow.version == adapter.version:
        detail = f"{adapter.version} is the version that answers: its copies would tell nothing."
        hint = "Name another version, or delete `shadow`."
        yield Finding("FC1230", (*at, "shadow", "version"), detail, hint=hint)
