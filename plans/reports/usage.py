"""Shows usage by client, alias and version, and demand by hour."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.capacity import hourly_rpm, peak_hour
from fleet.spec import AdapterSpec, FleetSpec
from fleet.usage import Sketch, UsageCell
from plans.documents.document import write
from plans.tables import and_more, counted

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


FEW = 20
"""Upper bound of aliases of a base that are listed, the largest first; `--all` lists all."""
_BARS = "▁▂▃▄▅▆▇█"
_LINES = "00    06    12    18    "


def render(fleet: FleetSpec, *, every: bool = False) -> str:
    """Return the chart, hours in UTC; every line is scaled to its peak."""
    width = max([len("Requests a minute"), *(len(alias) + 2 for alias in fleet.adapters)])
    lines = [f"{'Requests a minute':{width}}  {'peak':>8}  {'at':5}  {_LINES}  UTC"]
    for base, adapters in _by_base(fleet).items():
        hours = {adapter.alias: hourly_rpm(adapter.demand) for adapter in adapters}
        lines.append(_line(f"base {base}", _total(adapters), width, ""))
        known = [adapter for adapter in adapters if adapter.demand]
        known.sort(key=lambda adapter: (-max(hours[adapter.alias]), adapter.alias))
        shown = known if every else known[:FEW]
        lines += [
            _line(f"  {adapter.alias}", hours[adapter.alias], width, _source(adapter))
            for adapter in shown
        ]
        if rest := and_more(known, len(shown)):
            lines.append(f"  … {rest}; --all lists each")
        if silent := len(adapters) - len(known):
            lines.append(f"  {counted(silent, 'adapter')} without declared demand: taken as idle")
    return "\n".join(lines) + "\n"


def render_json(fleet: FleetSpec) -> str:
    """Return the demand as JSON: requests per minute by hour of the day, UTC."""
    bases = {
        base: {
            "adapters": len(adapters),
            "without_demand": sum(adapter.demand is None for adapter in adapters),
            **_hours(_total(adapters)),
        }
        for base, adapters in _by_base(fleet).items()
    }
    aliases = {
        alias: {
            "base": adapter.name.base,
            "source": _source(adapter) or "none",
            **_hours(hourly_rpm(adapter.demand)),
        }
        for alias, adapter in fleet.adapters.items()
    }
    return write({"adapters": aliases, "bases": bases, "timezone": "UTC", "unit": "rpm"})


def _total(adapters: Iterable[AdapterSpec]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*(hourly_rpm(a.demand) for a in adapters), strict=True)))


def _hours(rpm: tuple[float, ...]) -> Mapping[str, Any]:
    hour = peak_hour(rpm)
    return {"rpm": list(rpm), "peak_hour": hour if rpm[hour] else None}


def _by_base(fleet: FleetSpec) -> Mapping[str, list[AdapterSpec]]:
    bases: dict[str, list[AdapterSpec]] = {}
    for adapter in sorted(fleet.adapters.values(), key=lambda a: (a.name.base, a.alias)):
        bases.setdefault(adapter.name.base, []).append(adapter)
    return bases


def _source(adapter: AdapterSpec) -> str:
    if adapter.demand is None:
        return ""
    return "declared" if adapter.demand.observed is None else "observed"


def _line(name: str, rpm: tuple[float, ...], width: int, source: str) -> str:
    hour = peak_hour(rpm)
    largest = rpm[hour]
    at = f"{hour:02}:00" if largest else "never"
    top = len(_BARS) - 1
    bars = "".join(_BARS[round(rate / largest * top)] if rate else "·" for rate in rpm)
    return f"{name:{width}}  {largest:8.5g}  {at:5}  {bars}  {source}".rstrip()
