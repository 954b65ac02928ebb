"""Writes the files of root for system units of a host: a template, and a rule of polkit.

The rule names instances of the template exactly. A rule for names that begin alike would let its
user start a unit of any text as root, and so would a rule for a name that has no template:
`systemd-run --unit=NAME`.
"""

import hashlib
from collections.abc import Collection, Iterator
from json import dumps
from typing import Final

from fleet.hosts.facts import HostFacts, HostFinding, unknown
from fleet.hosts.systemd_unit import plain_value
from fleet.hosts.units import STOP_S, instance_name

TEMPLATE: Final = f"/etc/systemd/system/{instance_name('')}"
RULE: Final = "/etc/polkit-1/rules.d/50-fleetctl.rules"
RUN: Final = ".local/share/fleetctl/servers/{}/run"
"""Script of a server, by its name; relative to the user's home."""
_UNIT: Final = """\
[Unit]
Description=vLLM %i of fleetctl
Wants=network-online.target
After=network-online.target
ConditionPathExists={run}
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
WorkingDirectory=~
ExecStart=/bin/sh {run}
Restart=always
RestartSec=1
TimeoutStopSec={stop_s:g}
KillMode=mixed

[Install]
WantedBy=multi-user.target
"""
_RULE: Final = """\
// {user} starts and stops these instances of a template that root owns, and no other unit.
var instances = {instances};
polkit.addRule(function(action, subject) {{
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == {quoted} &&
            instances.indexOf(action.lookup("unit")) >= 0 &&
            ["start", "stop", "restart", "reset-failed"].indexOf(action.lookup("verb")) >= 0) {{
        // Without the template, the name could be given to a unit of any text, run by root.
        polkit.spawn(["/usr/bin/test", "-e", {template}]);
        return polkit.Result.YES;
    }}
}});
"""


def _template(user: str, home: str) -> str:
    """Return the template of the servers of a user."""
    run = f"{plain_value(home)}/{RUN.format('%i')}"
    return _UNIT.format(user=plain_value(user), run=run, stop_s=STOP_S)


def root_script(user: str, home: str, servers: Collection[str]) -> str:
    """Return the script that root runs on a host for these servers; safe to repeat."""
    names = sorted(map(instance_name, servers))
    rule = _RULE.format(
        user=user, quoted=dumps(user), instances=dumps(names, indent=4), template=dumps(TEMPLATE)
    )
    return (
        f"cat >{TEMPLATE} <<'END'\n{_template(user, home)}END\n"
        f"cat >{RULE} <<'END'\n{rule}END\n"
        f"systemctl daemon-reload && systemctl enable {' '.join(names)}\n"
    )


def judge_template(name: str, facts: HostFacts) -> Iterator[HostFinding]:
    """Yield findings about the template, the rights to its instances and their start at boot."""
    user, home, found = map(facts.told, ("user", "home", "template"))
    refused, disabled = facts.told("refused"), facts.told("disabled")
    shows, subject = f"fleetctl host prepare {name} --dry-run", "system units"
    if not (user and home and found):
        yield unknown(subject)
    elif found != hashlib.sha256(_template(user, home).encode()).hexdigest():
        text = f"`{TEMPLATE}` is {'missing' if found == 'none' else 'not that of this fleetctl'}."
        yield HostFinding(subject, "fault", f"{text} Root installs it.", shows)
    elif not (refused and disabled):
        yield unknown(subject)
    elif refused != "none":
        text = f"`{user}` may not start {refused}. Root allows it."
        yield HostFinding(subject, "fault", text, shows)
    elif disabled != "none":
        text = f"They would not start with the machine: {disabled}."
        yield HostFinding(subject, "fault", text, shows)
    else:
        yield HostFinding(subject, "ok", f"`{user}` starts and stops its servers, no other units.")
