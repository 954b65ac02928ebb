"""The page of the metrics: families of the gateway, by a run of its counters, and of the fleet."""

import re

from runtime.gateway.traffic.accounting import FAMILIES, UsageCounters, exposition
from runtime.usage.row import UsageRow
from runtime.web.scraped import HELP
from tests.reference.page import REPOSITORY, table

HEAD = """# Metrics

[Prometheus](../prometheus.md) says how they are scraped, and which rules and panels read them. A
counter begins at 0 with its process. Times are seconds.
"""
SAMPLE = re.compile(r"^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? ", re.MULTILINE)
ROW = re.compile(r"^\| (`fleetctl_[^|]+)\|([^|]*)\|", re.MULTILINE)


def labels_of(text: str) -> dict[str, tuple[str, ...]]:
    """Return the names of the labels of every family that has samples in a text."""
    found: dict[str, dict[str, None]] = {}
    for name, labels in SAMPLE.findall(re.sub("^#.*$", "", text, flags=re.MULTILINE)):
        found.setdefault(name, {}).update(dict.fromkeys(re.findall(r'(\w+)="', labels)))
    return {name: tuple(labels) for name, labels in found.items()}


def of_gateway() -> dict[str, tuple[str, ...]]:
    """Return the labels of the gateway's families."""
    counters = UsageCounters()
    asked = UsageRow("", "", "acme", "acme-support", "v1", status=200, first_byte_s=0.1)
    for row in (asked, UsageRow("", "", purpose="eval", status=200)):
        counters.count(row)
    counters.refusals.leaves_row(UsageRow("", "", status=401))
    split = [{"alias": "acme-support", "adapter": "v1", "percent": 10, "requests": 1}]
    return labels_of(exposition(counters, {("gpu0", "v1"): 1}, split, {"gpu0": True}, 0))


def of_fleet() -> dict[str, tuple[str, ...]]:
    """Return the labels of the fleet's families, as the page on Prometheus has them."""
    page = (REPOSITORY / "docs" / "prometheus.md").read_text(encoding="utf-8")
    return {
        name: tuple(re.findall(r"\w+", labels))
        for names, labels in ROW.findall(page)
        for name in re.findall(r"`(\w+)`", names)
    }


def page() -> str:
    """Return the page."""
    gateway = [
        (f"`{name}`", kind, ", ".join(of_gateway()[name]), text)
        for name, (kind, text) in FAMILIES.items()
    ]
    fleet = [
        (f"`{name}`", "gauge", ", ".join(of_fleet()[name]), text) for name, text in HELP.items()
    ]
    columns = "name | type | labels | meaning"
    return "\n".join(
        [
            HEAD,
            "## Of a gateway",
            "",
            "`GET /metrics` of the admin side, and `/metrics/GATEWAY` of the dashboard.",
            "",
            *table(columns, gateway),
            "",
            "## Of the fleet",
            "",
            "`GET /metrics` of the dashboard.",
            "",
            *table(columns, fleet),
            "",
        ]
    )
