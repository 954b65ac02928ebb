"""The files of root for system units, and what a host lacks of them."""

import hashlib
from dataclasses import replace

import pytest

from fleet.hardware import SYSTEM
from fleet.hosts import TEMPLATE, HostFinding, root_script
from tests.fleet.hosts.test_findings import HOST, facts, judged


def template_told(**changed: str) -> HostFinding:
    script = root_script("fleet", "/home/fleet", ["llama3-box1-gpu0"])
    template = script.partition("<<'END'\n")[2].partition("END\n")[0]
    digest = hashlib.sha256(template.encode()).hexdigest()
    told = {"home": "/home/fleet", "template": digest, "refused": "none", "disabled": "none"}
    found = judged(facts(**{"linger": "no", **told, **changed}), replace(HOST, supervisor=SYSTEM))
    assert not {"linger", "user manager"} & {*found}
    return found["system units"]


ROOT = "Root installs it."
UNIT = "fleetctl-engine@llama3-box1-gpu0.service"


@pytest.mark.parametrize(
    ("changed", "verdict", "text"),
    [
        ({}, "ok", "`fleet` starts and stops its servers, no other units."),
        ({"template": "none"}, "fault", f"`{TEMPLATE}` is missing. Root installs it."),
        (
            {"home": "/srv"},
            "fault",
            f"`{TEMPLATE}` is not that of this fleetctl. {ROOT}",
        ),
        ({"refused": UNIT}, "fault", f"`fleet` may not start {UNIT}. Root allows it."),
        ({"disabled": UNIT}, "fault", f"They would not start with the machine: {UNIT}."),
        ({"refused": ""}, "unknown", "The host does not tell."),
        ({"disabled": ""}, "unknown", "The host does not tell."),
        ({"home": ""}, "unknown", "The host does not tell."),
        ({"template": ""}, "unknown", "The host does not tell."),
    ],
)
def test_system_units_need_what_root_installs_and_no_linger(
    changed: dict[str, str], verdict: str, text: str
) -> None:
    found = template_told(**changed)
    assert (found.verdict, found.text) == (verdict, text)
    shows = "fleetctl host prepare box1 --dry-run"
    assert found.command == (shows if verdict == "fault" else "")


def test_what_root_runs_names_the_user_s_servers_and_quotes_its_name() -> None:
    script = root_script('f"; x', "/home/%f", ["a-box1-gpu0", "b-box1-gpu0"])
    assert 'subject.user == "f\\"; x"' in script
    assert "ExecStart=/bin/sh /home/%%f/.local/share/fleetctl/servers/%i/run" in script
    assert script.count("fleetctl-engine@b-box1-gpu0.service") == 2
