"""Demand by the hour of the day: a line of bars for each alias, summed up for each base."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.capacity import HOURS, hourly_rpm, peak_hour
from fleet.spec import AdapterSpec, FleetSpec
from plans.documents.document import write
from plans.wording import counted

FEW = 20
"""Aliases listed for each base unless all are asked for, the largest first."""
_BARS = "▁▂▃▄▅▆▇█"
_LINES = "00    06    12    18    "


def render(fleet: FleetSpec, *, every: bool = False) -> str:
    """Return the chart, hours in UTC, each line scaled to its own peak."""
    width = max([len("Requests a minute"), *(len(each) + 2 for each in fleet.adapters)])
    lines = [f"{'Requests a minute':{width}}  {'peak':>8}  {'at':5}  {_LINES}  UTC"]
    for base, adapters in _by_base(fleet).items():
        hours = {each.alias: hourly_rpm(each.demand) for each in adapters}
        total = tuple(map(sum, zip(*hours.values(), strict=True)))
        lines.append(_line(f"base {base}", total, width, ""))
        known = [each for each in adapters if each.demand]
        known.sort(key=lambda each: (-max(hours[each.alias]), each.alias))
        shown = known if every else known[:FEW]
        lines += [
            _line(f"  {each.alias}", hours[each.alias], width, _source(each)) for each in shown
        ]
        if len(shown) < len(known):
            lines.append(f"  … and {len(known) - len(shown)} more; --all lists each")
        if silent := len(adapters) - len(known):
            lines.append(f"  {counted(silent, 'adapter')} without declared demand: taken as idle")
    return "\n".join(lines) + "\n"


def render_json(fleet: FleetSpec) -> str:
    """Return the same for scripts: requests per minute in each hour of the day, UTC."""
    bases = {}
    for base, adapters in _by_base(fleet).items():
        total = tuple(map(sum, zip(*(hourly_rpm(each.demand) for each in adapters), strict=True)))
        silent = sum(each.demand is None for each in adapters)
        bases[base] = {"adapters": len(adapters), "without_demand": silent, **_hours(total)}
    aliases = {
        alias: {
            "base": each.name.base,
            "source": _source(each) or "none",
            **_hours(hourly_rpm(each.demand)),
        }
        for alias, each in fleet.adapters.items()
    }
    return write({"adapters": aliases, "bases": bases, "timezone": "UTC", "unit": "rpm"})


def _hours(rpm: tuple[float, ...]) -> Mapping[str, Any]:
    hour = peak_hour(rpm)
    return {"rpm": list(rpm), "peak_hour": hour if rpm[hour] else None}


def _by_base(fleet: FleetSpec) -> Mapping[str, list[AdapterSpec]]:
    found: dict[str, list[AdapterSpec]] = {}
    for each in sorted(fleet.adapters.values(), key=lambda each: (each.name.base, each.alias)):
        found.setdefault(each.name.base, []).append(each)
    return found


def _source(adapter: AdapterSpec) -> str:
    if adapter.demand is None:
        return ""
    return "declared" if adapter.demand.observed is None else "observed"


def _line(name: str, rpm: tuple[float, ...], width: int, source: str) -> str:
    hour = peak_hour(rpm)
    largest = rpm[hour]
    at = f"{hour:02}:00" if largest else "never"
    return f"{name:{width}}  {largest:8.5g}  {at:5}  {''.join(_bars(rpm))}  {source}".rstrip()


def _bars(rpm: tuple[float, ...]) -> Iterator[str]:
    largest = max(rpm)
    for hour in range(HOURS):
        share = rpm[hour] / largest if largest else 0.0
        yield _BARS[round(share * (len(_BARS) - 1))] if share else "·"
