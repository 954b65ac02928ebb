"""Judges the facts of hosts of engine `ssh`, and writes the unit files of their servers.

Layer 3, beside `capacity` and `history`. Callers read the facts. Pure.
"""

from fleet.hosts.facts import HostFacts, HostFinding, parse_facts
from fleet.hosts.findings import judge_host
from fleet.hosts.unit_files import (
    Container,
    SystemdUnit,
    cleared_variables,
    container_name,
    container_text,
    flag_lines,
    script_text,
    unit_path,
    unit_text,
)
from fleet.hosts.units import (
    RULE,
    RUN,
    STOP_S,
    TEMPLATE,
    forward_unit,
    instance_name,
    judge_template,
    root_script,
    server_container,
    server_unit,
    unit_name,
)
