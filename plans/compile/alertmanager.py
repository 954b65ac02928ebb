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
        its = {"api_url": webhook, "send_resolved": True, "text": _TEXT}
        receiver["slack_configs"] = [its]
    if mail:
        user, _, password = login.partition(":")
        sent: dict[str, Any] = {
            "to": ", ".join(mail.to),
            "from": mail.sender,
            "smarthost": mail.server,
            "send_resolved": True,
        }
        receiver["email_configs"] = [
            sent | ({"auth_username": user, "auth_password": password} if login else {})
        ]
    document = {
        "route": {
            "receiver": "operators",
            "group_by": ["fleet", "subject"],
            "repeat_interval": "4h",
            "routes": [
                {
                    "receiver": "operators",
                    "matchers": ['severity="ticket"'],
                    "repeat_interval": "24h",
                }
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{AlertRule.OUTAGE}"', 'server!=""'],
                "target_matchers": [f'alertname=~"{"|".join(sorted(OF_TRAFFIC))}"'],
                "equal": ["fleet", "server"],
            },
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["fleet", "subject"],
            },
        ],
        "receivers": [receiver],
    }
    return json.dumps(document, indent=1) + "\n"
