"""Judges the facts of hosts of engine `ssh`, and names the commands that help.

Layer 3, beside `capacity` and `history`. Callers read the facts. Pure.
"""

from fleet.hosts.facts import HostFacts, HostFinding, parse_facts
from fleet.hosts.findings import judge_host
from fleet.hosts.template import RULE, RUN, TEMPLATE, judge_template, root_script
