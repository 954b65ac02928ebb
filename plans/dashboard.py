"""Render a page: its template, with the charts that its document gives."""

from calendar import monthrange
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from fleet.costing import ALARM
from fleet.placement import PlacementResult
from fleet.spec import FleetSpec
from plans import tables
from plans.charts import (
    BarPart,
    ChartSeries,
    TimelineRow,
    TimeSpan,
    bar_chart,
    day_strip,
    heat_map,
    line_chart,
    share_bar,
    timeline,
)
from plans.drawing import drawing_of
from plans.drawing.content import DeviceBox, ServerPanel
from plans.drawing.labels import PART_NAMES
from plans.reports.cost import money
from plans.templating import rendered


def hosts(
    fleet: FleetSpec, placement: PlacementResult, silent: Iterable[str], shares: Mapping[str, int]
) -> list[Mapping[str, Any]]:
    """Return the devices by host, as they are once the placement is applied.

    `silent`: servers that do not answer. `shares`: live percent by full adapter name.
    """
    return [
        {
            "host": row.host,
            "idle": list(row.idle),
            "silent": list(row.silent),
            "groups": [
                {
                    "boxes": [_box(box) for box in group.boxes],
                    "panels": [_panel(panel, shares) for panel in group.panels],
                }
                for group in row.groups
            ],
        }
        for row in drawing_of(fleet, placement, silent).rows
    ]


def _box(box: DeviceBox) -> Mapping[str, Any]:
    return {
        "device": box.device,
        "kind": box.kind,
        "memory_bytes": box.memory_bytes,
        "free_bytes": box.free_bytes,
        "price_per_hour": box.price_per_hour,
        "parts": [
            {"name": part.name, "server": part.server, "bytes": part.bytes} for part in box.parts
        ],
    }


def _panel(panel: ServerPanel, shares: Mapping[str, int]) -> Mapping[str, Any]:
    return {
        "server": panel.server,
        "base": panel.base,
        "slots": panel.slots,
        "empty": panel.empty,
        "others": list(panel.others),
        "requests": panel.requests,
        "hours": [round(part, 4) for part in panel.hours],
        "limit": panel.limit,
        "worst_hour": panel.worst_hour,
        "basis": panel.basis,
        "blocks": [
            {
                "alias": block.alias,
                "client": block.client,
                "version": block.version,
                "cached": block.cached,
                "percent": shares.get(block.adapter),
            }
            for block in panel.blocks
        ],
    }


MOST_SERIES = 6
"""Upper bound of the colours of a chart's bars."""
HUES = 12
"""Number of colours of clients; the name stands beside every colour."""
NAVIGATION = (
    ("/", "Fleet"),
    ("/models", "Models"),
    ("/clients", "Clients"),
    ("/usage", "Usage"),
    ("/cost", "Cost"),
    ("/rollouts", "Rollouts"),
    ("/alerts", "Alerts"),
    ("/drift", "Drift"),
    ("/plans", "Plans"),
)
STATES: Mapping[str, tuple[str, str]] = {
    "serving": ("●", "safe"),
    "answers": ("●", "safe"),
    "rollout": ("◐", "move"),
    "update": ("◐", "move"),
    "waits": ("‖", "care"),
    "down": ("✕", "danger"),
    "unknown": ("?", "danger"),
    "up": ("●", "safe"),
}
"""Symbol and colour by state."""


def stylesheet() -> str:
    """Return the style sheet of all pages."""
    return rendered("dashboard/dashboard.css")


def render(page: str, values: Mapping[str, Any]) -> str:
    """Return the HTML of a page; texts from outside are escaped."""
    return rendered(
        f"dashboard/{page}.html.j2",
        page=page,
        navigation=NAVIGATION,
        states=STATES,
        amounts=tables,
        split=split,
        memory=memory,
        day=day,
        stages=stages,
        steps=steps,
        hue=hue,
        requests=requests,
        week_map=week_map,
        demand=demand,
        costs=costs,
        daily_costs=daily_costs,
        change=change,
        fee_shares=fee_shares,
        money=money,
        latency=latency,
        moment=moment,
        seconds=seconds,
        **values,
    )


def hue(client: str) -> str:
    """Return the CSS class of a client's colour."""
    return f"h{sum(map(ord, client)) % HUES}"


def moment(text: str | None) -> str:
    """Return a time of a document for people, in UTC: `2026-11-28 12:00`."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}" if text else "-"


def seconds(value: float | None) -> str:
    """Return a time of an answer: `40 ms`, `1.23 s`; `-` where no request gives one."""
    if value is None:
        return "-"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.3g} s"


def split(versions: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the bar of the shares of an alias's versions."""
    parts = [
        BarPart(
            "s0" if index == 0 else "s5",
            share["percent"],
            f"{share['version']} {share['percent']} %",
        )
        for index, share in enumerate(versions)
        if share["percent"]
    ]
    return share_bar("Shares of the requests", parts, 100)


def memory(box: Mapping[str, Any]) -> Markup:
    """Return the bar of a device's memory."""
    parts = [
        BarPart(
            part["name"], part["bytes"], f"{PART_NAMES[part['name']]} {tables.size(part['bytes'])}"
        )
        for part in box["parts"]
    ]
    return share_bar(f"Memory of {box['device']}", parts, box["memory_bytes"])


def requests(hours: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the requests by hour: answered, and failed on top."""
    good = tuple(hour["requests"] - hour["errors"] for hour in hours)
    bad = tuple(hour["errors"] for hour in hours)
    series = [ChartSeries("answered, refused or left", good), ChartSeries("failed", bad)]
    return bar_chart("Requests by hour, UTC", _clock(hours), series)


def week_map(week: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the requests of a week by weekday and hour."""
    rows = [ChartSeries(row["weekday"], tuple(row["requests"])) for row in week]
    hours = [f"{hour:02}" for hour in range(24)]
    return heat_map("Requests of the last seven days by weekday and hour, UTC", hours, rows)


def demand(row: Mapping[str, Any]) -> Markup:
    """Return the planned and the observed demand of an alias by hour, as parts of the peak."""
    peak = row["planned_peak_rpm"] or row["observed_peak_rpm"] or 1.0
    planned, observed = (
        [rpm / peak for rpm in row[name] or ()] for name in ("planned_rpm", "observed_rpm")
    )
    return day_strip(f"Demand of {row['alias']}, of {peak:g} requests a minute", planned, observed)


def latency(hours: Sequence[Mapping[str, Any]], promise: float | None = None) -> Markup:
    """Return the 95th percentile of the latency by hour, with the promise as the limit."""
    series = [ChartSeries("95th percentile", tuple(hour["p95_s"] for hour in hours))]
    return line_chart("Latency by hour, UTC", _clock(hours), series, unit="s", limit=promise)


def costs(lines: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the cost of every client as a bar, a colour a line of the bill."""
    clients = list(dict.fromkeys(line["client"] or "platform" for line in lines))
    kinds = list(dict.fromkeys(line["line"] for line in lines))
    sums = {(client, kind): 0 for client in clients for kind in kinds}
    for line in lines:
        sums[line["client"] or "platform", line["line"]] += line["cents"]
    series = [
        ChartSeries(kind, tuple(max(sums[client, kind], 0) / 100 for client in clients))
        for kind in kinds
    ]
    return bar_chart("Cost by client", clients, series)


def daily_costs(days: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the cost of devices by day as bars of the costliest clients and all others."""
    sums: Counter[str] = Counter()
    for line in days:
        sums[line["client"] or "platform"] += line["micro"]
    names = [name for name, _ in sums.most_common()]
    shown = names[: MOST_SERIES - (len(names) > MOST_SERIES)]
    cells: Counter[tuple[str, str]] = Counter()
    for line in days:
        name = line["client"] or "platform"
        cells[line["day"], name if name in shown else "all others"] += line["micro"]
    month, known = days[0]["day"][:7], {line["day"] for line in days}
    dates = [f"{month}-{day + 1:02}" for day in range(monthrange(*map(int, month.split("-")))[1])]
    series = [
        ChartSeries(
            name, tuple(cells[date, name] / 1e6 if date in known else None for date in dates)
        )
        for name in [*shown, *(["all others"] if len(names) > len(shown) else [])]
    ]
    return bar_chart("Cost of devices by day", [date[5:] for date in dates], series)


def change(client: Mapping[str, Any]) -> str:
    """Return the change of a client's cost: `+12.00 (+8.1 %)`, `not known`."""
    cents, share = client["change_cents"], client["change_percent"]
    if cents is None:
        return "not known"
    sign = "+" if cents > 0 else ""
    return f"{sign}{money(cents)}" + ("" if share is None else f" ({share:+} %)")


def fee_shares(clients: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the cost of every client that has a fee in percent of the fee, with the alarm's line.

    Empty where no client has one.
    """
    known = [client for client in clients if client["of_fee_percent"] is not None]
    series = [ChartSeries("cost", tuple(client["of_fee_percent"] for client in known))]
    names = [client["client"] for client in known]
    chart = bar_chart("Cost in percent of the fee", names, series, unit="%", limit=float(ALARM))
    return chart if known else Markup("")


def _clock(hours: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{datetime.fromisoformat(hour['hour']):%H:%M}" for hour in hours]


def day(panel: Mapping[str, Any], as_of: str) -> Markup:
    """Return the hours of a server's declared load, with the hour of the reading marked."""
    now = datetime.fromisoformat(as_of).hour
    return day_strip(f"Load of {panel['server']}", panel["hours"], limit=panel["limit"], now=now)


def stages(rollout: Mapping[str, Any], as_of: str) -> Markup:
    """Return the stages of a rollout on an axis of time; empty where no stage has begun."""
    if not rollout.get("since"):
        return Markup("")
    now, since = datetime.fromisoformat(as_of), datetime.fromisoformat(rollout["since"])
    baked = datetime.fromisoformat(rollout["baked_at"]) if rollout["baked_at"] else since
    last = datetime.fromisoformat(rollout["longest_until"]) if rollout["longest_until"] else baked
    end = max(now, last, since + timedelta(hours=1))
    rows = []
    for weight in rollout["weights"]:
        spans: tuple[TimeSpan, ...] = ()
        if weight == rollout["percent"]:
            longest = TimeSpan(
                since, last, "outline", f"at the longest until {last:%d %b %H:%M} UTC"
            )
            bake = TimeSpan(since, baked, "fill declared", f"bakes until {baked:%d %b %H:%M} UTC")
            actual = TimeSpan(
                since, min(now, end), "fill observed", f"since {since:%d %b %H:%M} UTC"
            )
            spans = (longest, bake, actual)
        reached = "done" if weight < rollout["percent"] else ""
        note = f"now {rollout['percent']} %" if spans else reached
        rows.append(TimelineRow(f"{weight} %", spans, note))
    return timeline(f"Stages of {rollout['alias']} {rollout['version']}", rows, since, end, now)


def steps(facts: Mapping[str, Any]) -> Markup:
    """Return the steps of an apply on an axis of time, those of a server in a row."""
    rows: dict[str, list[TimeSpan]] = {}
    for step in facts["steps"]:
        start, end = (datetime.fromisoformat(step[name]) for name in ("start", "end"))
        place = step["address"].rpartition("@")[2].partition("/")
        look = "fill s4" if step["error"] else "fill observed"
        words = f"{step['step']}: {step['error'] or 'done'}"
        rows.setdefault(place[2] or place[0], []).append(TimeSpan(start, end, look, words))
    if not rows:
        return Markup("")
    every = [span for spans in rows.values() for span in spans]
    start, end = min(span.start for span in every), max(span.end for span in every)
    lanes = [TimelineRow(name, tuple(spans)) for name, spans in rows.items()]
    return timeline("Steps", lanes, start, end, end)
