"""Draw charts as SVG in HTML: no script, no outside asset, light and dark; pure.

A chart has a title, a description, and the same figures as a table.
"""

from plans.charts.figures import ChartSeries, bar_chart, heat_map, line_chart
from plans.charts.strips import (
    BarPart,
    TimelineRow,
    TimeSpan,
    day_strip,
    share_bar,
    sparkline,
    timeline,
)

__all__ = [
    "BarPart",
    "ChartSeries",
    "TimeSpan",
    "TimelineRow",
    "bar_chart",
    "day_strip",
    "heat_map",
    "line_chart",
    "share_bar",
    "sparkline",
    "timeline",
]
