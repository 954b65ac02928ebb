"""Judges the facts of hosts of engine `ssh`, and writes the unit files of their servers.

Layer 3, beside `capacity` and `history`. Callers read the facts. Pure.
"""

from fleet.hosts.facts import HostFacts, HostFinding, parse_facts
from fleet.hosts.findings import judge_host
from fleet.hosts.quadlet_unit import Container, container_name, container_text, unit_path
from fleet.hosts.systemd_unit import (
    SystemdUnit,
    cleared_variables,
    flag_lines,
    script_text,
    unit_text,
)
from fleet.hosts.template import RULE, RUN, TEMPLATE, judge_template, root_script
from fleet.hosts.units import (
    STOP_S,
    forward_unit,
    instance_name,
    server_container,
    server_unit,
    unit_name,
)
