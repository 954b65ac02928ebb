"""Shows usage by client, alias and version: as rows of a table, for people and for scripts."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.usage import Sketch, UsageCell

SHARES = (50, 95, 99)


def usage_rows(
    cells: Sequence[UsageCell], users: Mapping[tuple[str, ...], int]
) -> list[dict[str, Any]]:
    """Return a row for every client, alias and version; `users` by these. Times are seconds."""
    merged: dict[tuple[str, str, str], UsageCell] = {}
    for cell in cells:
        key = (cell.client, cell.alias, cell.version)
        known = merged.get(key)
        merged[key] = (
            cell if known is None else UsageCell(cell.start, known.figures + cell.figures, *key)
        )
    return [_row(cell, users.get(key, 0)) for key, cell in sorted(merged.items())]


def _row(cell: UsageCell, users: int) -> dict[str, Any]:
    figures = cell.figures
    return {
        "client": cell.client,
        "alias": cell.alias,
        "version": cell.version,
        "requests": figures.requests,
        "errors": figures.errors + figures.refused + figures.rejected,
        "left_by_client": figures.left,
        "recounted": figures.recounted,
        "unknown_tokens": figures.unknown,
        "users": users,
        "input_tokens": figures.input_tokens,
        "cached_tokens": figures.cached_tokens,
        "output_tokens": figures.output_tokens,
        **_quantiles("latency", figures.latency),
        **_quantiles("first_token", figures.first_token),
    }


def _quantiles(name: str, sketch: Sketch) -> dict[str, float | None]:
    values = {share: sketch.quantile(share / 100) for share in SHARES}
    return {
        f"{name}_p{share}_s": None if value is None else float(f"{value:.3g}")
        for share, value in values.items()
    }
