"""Hand the alerts that stand to an Alertmanager, which groups, silences and sends them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from fleet.alerting import Alert
from runtime.notify.delivery import deliver

RENEWED_FOR: Final = timedelta(minutes=30)
"""Time after which an alert ends that no later look hands over again."""


async def post_alerts(
    url: str, fleet: str, alerts: Iterable[tuple[Alert, str]], now: datetime
) -> str:
    """Post alerts with their texts; return why the Alertmanager did not take them; empty: it did.

    An alert that has ended is posted with its end, as long as the end is recent.
    """
    documents = [
        _document(fleet, alert, text, now)
        for alert, text in alerts
        if alert.stands or (alert.until is not None and now - alert.until < RENEWED_FOR)
    ]
    return await deliver(f"{url.rstrip('/')}/api/v2/alerts", documents) if documents else ""


def _document(fleet: str, alert: Alert, text: str, now: datetime) -> dict[str, Any]:
    labels = {"alertname": alert.rule.value, "fleet": fleet, "subject": alert.subject}
    labels["severity"] = "page" if alert.urgent else "ticket"
    if len(alert.servers) == 1:
        labels["server"] = alert.servers[0]
    return {
        "labels": labels,
        "annotations": {"summary": text, "command": alert.command},
        "startsAt": alert.since.isoformat(),
        "endsAt": (alert.until or now + RENEWED_FOR).isoformat(),
    }
