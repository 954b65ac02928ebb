"""Compile Alertmanager's configuration: routes, inhibitions and the declared receivers."""

import json
from typing import Any, Final

from fleet.alerting import OF_TRAFFIC, AlertRule
from fleet.spec import MailSpec

CONFIG_FILE: Final = "alertmanager.json"
_TEXT: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }} ({{ .Status }}): {{ .Annotations.command }}\n"
    "{{ end }}"
)


def config(webhook: str, mail: MailSpec | None, login: str) -> str:
    """Return the configuration; `webhook` is a URL, `login` is `user:password`, empty: none.

    JSON, which is YAML too. An outage of a server speaks for the traffic of its aliases, and an
    urgent alert for others of the same subject, as in `fleet.alerting`.
    """
    receiver: dict[str, Any] = {"name": "operators"}
    if webhook:
        receiver["slack_configs"] = [{"api_url": webhook, "send_resolved": True, "text": _TEXT}]
    if mail:
        user, _, password = login.partition(":")
        sent: dict[str, Any] = {"to": ", ".join(mail.to), "from": mail.sender}
        sent |= {"smarthost": mail.server, "send_resolved": True}
        sent |= {"auth_username": user, "auth_password": password} if login else {}
        receiver["email_configs"] = [sent]
    outage, traffic = AlertRule.OUTAGE, "|".join(sorted(OF_TRAFFIC))
    ticket, to = ['severity="ticket"'], {"receiver": "operators"}
    document = {
        "route": {
            **to, "group_by": ["fleet", "subject"], "repeat_interval": "4h",
            "routes": [{**to, "matchers": ticket, "repeat_interval": "24h"}],
        },
        "inhibit_rules": [
            {"source_matchers": [f'alertname="{outage}"', 'server!=""'],
             "target_matchers": [f'alertname=~"{traffic}"'], "equal": ["fleet", "server"]},
            {"source_matchers": ['severity="page"'], "target_matchers": ticket,
             "equal": ["fleet", "subject"]},
        ],
        "receivers": [receiver],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"
