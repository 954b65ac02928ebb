"""Servers as instances of a template that root owns: the engine's contract, rights, reboot."""

from collections.abc import Iterator
from dataclasses import replace
from subprocess import CalledProcessError
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineError
from fleet.hardware import SYSTEM
from fleet.hosts import RULE, TEMPLATE, HostFacts, instance_name, judge_host, root_script
from fleet.names import adapter_address
from runtime.engines.remote.preparation import preparation, read_facts
from runtime.engines.remote.units import launch_log
from tests.beds.engine_bench import BOX
from tests.beds.test_ssh_engine import *  # noqa: F403 (every test of the suite)

if TYPE_CHECKING:
    from runtime.engines.remote.preparation import PreparationStep
    from tests.beds.boxes import BoxBed
    from tests.beds.engine_bench import BoxBench
    from tests.runtime.engines.conftest import Bench

pytestmark = pytest.mark.boxes
AWAY = f"""systemctl stop 'fleetctl-engine@*'
rm -f {TEMPLATE} {RULE} /etc/systemd/system/*/fleetctl-engine@*
systemctl daemon-reload"""
OTHER = instance_name("other-box1-cpu0")
SHELL = "-P --wait --quiet id -u"
FORBIDDEN = [
    "systemctl start ssh.service",
    "systemctl stop ssh.service",
    f"systemctl start {OTHER}",
    f"systemd-run --unit={OTHER} {SHELL}",
    f"systemd-run --unit=fleetctl-engine@.service {SHELL}",
    f"systemd-run --unit=fleetctl-evil {SHELL}",
    f"systemd-run {SHELL}",
    f"systemd-run --unit={{unit}} {SHELL}",
    "systemctl enable {unit}",
    "systemctl disable {unit}",
    "systemctl mask {unit}",
    "systemctl kill {unit}",
    "systemctl set-property {unit} CPUWeight=1",
    "systemctl link $HOME/evil.service",
    "systemctl daemon-reload",
    "systemctl reboot",
    "systemctl set-environment A=1",
]


@pytest.fixture(scope="module")
def as_root(box_project: "tuple[Bench, BoxBed]") -> "Iterator[BoxBed]":
    """The bed, from whose box root takes the template and the rule away afterwards."""
    yield box_project[1]
    box_project[1].do("root", BOX, AWAY)


@pytest.fixture
def shared_bench(user_bench: "BoxBench", as_root: "BoxBed") -> "BoxBench":
    """The bench with system units in place of those of the user; root has done its part."""
    host = replace(user_bench.host, supervisor=SYSTEM)
    bench = replace(user_bench, host=host, server=replace(user_bench.server, supervisor=SYSTEM))
    if (step := step_for_root(bench)) is not None:
        as_root.do("root", BOX, step.script)
    return bench


def facts_of(bench: "BoxBench") -> HostFacts:
    facts = bench.run(lambda _: read_facts(bench.engine().ssh, bench.host, [bench.server.name]))
    assert isinstance(facts, HostFacts)
    return facts


def step_for_root(bench: "BoxBench") -> "PreparationStep | None":
    steps = preparation(bench.host, facts_of(bench), [bench.server.name])
    return next((step for step in steps if step.is_for_root), None)


def finding(bench: "BoxBench") -> tuple[str, str]:
    found = judge_host(bench.host, facts_of(bench), needed=0, resolver="")
    (units,) = [each for each in found if each.subject == "system units"]
    assert all(each.subject not in ("linger", "user manager") for each in found)
    return units.verdict, units.text


def test_without_root_nothing_starts_and_the_check_says_what_root_has_to_do(
    shared_bench: "BoxBench",
) -> None:
    bench = shared_bench
    bench.run(lambda engine: engine.stop(bench.server.name))
    bench.bed.do("root", BOX, AWAY)
    for start in (lambda e: e.check_start(bench.server), lambda e: e.start(bench.server)):
        with pytest.raises(EngineError) as caught:
            bench.run(start)
        (problem,) = caught.value.diagnostics
        assert (problem.code, problem.command) == (
            "FC4100",
            "fleetctl host prepare HOST --dry-run",
        )
    assert bench.observe().resources == {}
    assert finding(bench) == ("fault", f"`{TEMPLATE}` is missing. Root installs it.")
    step = step_for_root(bench)
    assert step is not None
    assert f"# as root on {BOX}: " in step.shown(BOX)
    bench.bed.do("root", BOX, root_script("fleetctl", "/home/fleetctl", ["other-box1-cpu0"]))
    assert finding(bench) == (
        "fault", f"`fleetctl` may not start {instance_name(bench.server.name)}. Root allows it."
    )  # fmt: skip
    bench.bed.do("root", BOX, step.script)
    assert finding(bench)[0] == "ok"
    assert step_for_root(bench) is None


def test_the_user_gets_no_more_than_starts_and_stops_of_its_servers(ready: "BoxBench") -> None:
    unit = instance_name(ready.server.name)
    ready.there("printf '[Service]\\nExecStart=/usr/bin/id\\n' >evil.service")
    for command in FORBIDDEN:
        with pytest.raises(CalledProcessError) as refused:
            ready.there(f"SYSTEMD_ASK_PASSWORD=0 {command.format(unit=unit)} </dev/null")
        assert refused.value.stdout.strip() == "", command
    assert ready.observe().servers() == {ready.server.name: ready.server}


def test_without_the_template_its_names_start_nothing_as_root(ready: "BoxBench") -> None:
    unit = instance_name(ready.server.name)
    ready.run(lambda engine: engine.stop(ready.server.name))
    ready.bed.do("root", BOX, f"mv {TEMPLATE} /root/; systemctl daemon-reload")
    try:
        with pytest.raises(CalledProcessError) as refused:
            ready.there(f"systemd-run --unit={unit} {SHELL}")
        assert refused.value.stdout == ""
    finally:
        ready.bed.do("root", BOX, f"mv /root/{instance_name('')} {TEMPLATE}")
        ready.bed.do("root", BOX, "systemctl daemon-reload")
    ready.start()


def test_a_server_runs_as_its_user_who_reads_its_log_and_sees_changes_by_hand(
    ready: "BoxBench",
) -> None:
    unit = ready.unit()
    assert (unit.is_system, unit.is_enabled, unit.is_edited) == (True, True, False)
    assert (unit.fleet.name, unit.record and unit.record.host) == (ready.fleet, BOX)
    shown = ready.there(f"stat -c %U /proc/{unit.pid}; cat /proc/{unit.pid}/cgroup").split()
    assert shown[0] == "fleetctl"
    assert shown[-1].endswith(f".slice/{instance_name(ready.server.name)}")
    ready.there("sed -i '1i # by hand' .local/share/fleetctl/servers/*/run")
    assert ready.unit().is_edited
    ready.run(lambda engine: engine.stop(ready.server.name))
    assert ready.there("ls .local/share/fleetctl/servers/*/run 2>/dev/null || :") == ""
    ready.there("touch fail")
    with pytest.raises(EngineError) as caught:
        ready.start()
    ready.there("rm fail")
    (problem,) = caught.value.diagnostics
    assert (problem.code, "no room for the base" in problem.detail) == ("FC4012", True)
    log = ready.run(lambda _: launch_log(ready.engine().ssh, ready.server.name, None))
    assert log == "ValueError: no room for the base\n"


def test_after_a_kill_and_a_reboot_it_is_back_with_its_adapters(ready: "BoxBench") -> None:
    name, folder = ready.adapter("acme")
    server = ready.server.name
    ready.run(lambda engine: engine.load(server, name, folder))
    ready.kill()
    ready.start()
    assert set(ready.observe().resolvable) == {adapter_address(name, server)}
    before = ready.unit()
    ready.bed.do("off", BOX)
    ready.bed.do("on", BOX)
    ready.start()
    after = ready.unit()
    assert (before.restarts, after.restarts, after.launch) == (1, 0, before.launch)
    assert set(ready.observe().resolvable) == {adapter_address(name, server)}


def test_a_server_of_the_user_s_manager_is_seen_and_replaced(
    user_bench: "BoxBench", ready: "BoxBench"
) -> None:
    ready.run(lambda engine: engine.stop(ready.server.name))
    user_bench.start()
    assert ready.observe().servers() == {ready.server.name: user_bench.server}
    ready.run(lambda engine: engine.stop(ready.server.name))
    ready.start()
    assert user_bench.observe().servers() == {ready.server.name: ready.server}
