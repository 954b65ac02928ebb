"""Units of servers on real boxes, under a real user manager."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from fleet.errors import EngineError
from fleet.hosts import server_unit, unit_text
from fleet.vllm import LaunchCommand
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.units import (
    ServerUnit,
    control_unit,
    list_units,
    remove_unit,
    write_unit,
)
from tests.beds.boxes import BoxBed
from tests.runtime.engines.remote.units import LAUNCH, RECORD, SERVER

pytestmark = pytest.mark.boxes
NAME = SERVER.name
NASTY = (
    "50% of $HOME ${HOME} %h",
    'say "hi"',
    "back\\slash\\n",
    "it's",
    ";",
    "#x",
    "line\nbreak",
    "",
)
SHOWN = 'printf "%s\\0" "$@" >~/words; printf "%s\\0" "$NASTY" "$VLLM_API_KEY" >>~/words'
PROGRAM = ("/bin/sh", "-c", f"{SHOWN}; exec sleep infinity", "sh")


def launch(*words: str, **environment: str) -> LaunchCommand:
    return replace(LAUNCH, arguments=(*PROGRAM, *words), environment=environment)


async def until(ssh: SshConnection, is_so: Callable[[ServerUnit], bool]) -> ServerUnit:
    """Return the unit once it is as wished; a box that boots does not answer."""
    while True:
        try:
            unit = (await list_units(ssh))[NAME]
        except EngineError:
            continue
        if is_so(unit):
            return unit


def restarted(before: ServerUnit) -> Callable[[ServerUnit], bool]:
    return lambda unit: unit.state == "active" and unit.pid != before.pid


def text(made: LaunchCommand) -> str:
    return unit_text(server_unit(made, "~"))


def run(bed: BoxBed, body: Callable[[SshConnection], Awaitable[None]], box: str = "box1") -> None:
    async def whole() -> None:
        ssh = bed.connection(box)
        try:
            await body(ssh)
        finally:
            bed.do("on", box)
            await remove_unit(ssh, NAME)
            await ssh.close(end_shared=True)

    asyncio.run(whole())


def test_a_server_runs_with_its_words_and_variables_unchanged(bed: BoxBed) -> None:
    async def body(ssh: SshConnection) -> None:
        assert NAME not in await list_units(ssh)
        await write_unit(ssh, RECORD, text(launch(*NASTY, NASTY=NASTY[0])))
        written = (await list_units(ssh))[NAME]
        assert (written.state, written.pid, written.is_edited) == ("inactive", 0, False)
        assert written.is_enabled
        assert written.record == RECORD
        await ssh.run("systemctl --user set-environment VLLM_API_KEY=open")
        await control_unit(ssh, "start", NAME)
        running = (await list_units(ssh))[NAME]
        assert (running.state, running.restarts) == ("active", 0)
        while not (words := (await ssh.run("cat words")).stdout):
            pass
        assert words.split("\0") == [*NASTY, NASTY[0], "", ""]
        await control_unit(ssh, "stop", NAME)
        assert (await list_units(ssh))[NAME].state == "inactive"
        await remove_unit(ssh, NAME)
        await remove_unit(ssh, NAME)
        assert NAME not in await list_units(ssh)

    run(bed, body)


def test_a_killed_server_is_back_and_the_invocation_tells(bed: BoxBed) -> None:
    async def body(ssh: SshConnection) -> None:
        await write_unit(ssh, RECORD, text(launch()))
        await control_unit(ssh, "start", NAME)
        before = (await list_units(ssh))[NAME]
        for number in range(1, 8):  # more often than systemd's usual limit of 5
            assert (await ssh.run(f"kill -9 {before.pid}")).code == 0
            after = await until(ssh, restarted(before))
            assert after.restarts == number
            assert after.invocation != before.invocation
            before = after

    run(bed, body)


def test_a_reboot_brings_a_server_back_without_a_command(bed: BoxBed) -> None:
    async def body(ssh: SshConnection) -> None:
        await write_unit(ssh, RECORD, text(launch()))
        await control_unit(ssh, "start", NAME)
        before = (await list_units(ssh))[NAME]
        bed.do("reboot", "box2")
        after = await until(ssh, restarted(before))
        assert (after.record, after.is_edited, after.restarts) == (RECORD, False, 0)
        assert after.invocation != before.invocation

    run(bed, body, "box2")


@pytest.mark.parametrize(
    "change",
    [
        "sed -i s/RestartSec=1/RestartSec=2/ {file}",
        "sed -i s/RestartSec=1/RestartSec=2/ {file} && systemctl --user daemon-reload",
        "sed -i s/:8001,/:8002,/ {file} && systemctl --user daemon-reload",
        "mkdir {file}.d && echo '[Service]' >{file}.d/a.conf && systemctl --user daemon-reload",
    ],
)
def test_a_change_by_hand_is_seen(bed: BoxBed, change: str) -> None:
    async def body(ssh: SshConnection) -> None:
        await write_unit(ssh, RECORD, text(launch()))
        file = f"~/.config/systemd/user/fleetctl-{NAME}.service"
        assert (await ssh.run(change.format(file=file))).code == 0
        assert (await list_units(ssh))[NAME].is_edited
        await write_unit(ssh, RECORD, text(launch()), RECORD.launch)
        assert (await list_units(ssh))[NAME].is_edited == ("mkdir" in change)

    run(bed, body)


def test_a_unit_that_another_run_wrote_meanwhile_is_left_with_its_files(bed: BoxBed) -> None:
    async def body(ssh: SshConnection) -> None:
        await write_unit(ssh, RECORD, text(launch()), files="echo one >files-of-a-launch\n")
        before = (await list_units(ssh))[NAME]
        later = RECORD.model_copy(update={"launch": "fedcba987654"})
        for seen in ("", "another"):
            with pytest.raises(EngineError, match="was written since this run looked") as raised:
                await write_unit(ssh, later, text(launch()), seen, "echo two >files-of-a-launch\n")
            assert raised.value.diagnostics[0].code == "FC4102"
        assert (await list_units(ssh))[NAME] == before
        file = "~/.config/systemd/user/files-of-a-launch"
        assert (await ssh.run(f"cat {file}; rm {file}")).stdout == "one\n"
        await write_unit(ssh, later, text(launch()), RECORD.launch)
        assert (await list_units(ssh))[NAME].launch == later.launch

    run(bed, body)


def test_a_unit_of_another_program_has_no_record(bed: BoxBed) -> None:
    async def body(ssh: SshConnection) -> None:
        text = "[Service]\\nExecStart=/bin/sleep infinity\\n"
        file = "~/.config/systemd/user/fleetctl-x.service"
        assert (await ssh.run(f"mkdir -p ${{file%/*}}; printf '{text}' >{file}")).code == 0
        found = (await list_units(ssh))["x"]
        assert (found.record, found.is_edited) == (None, True)
        assert (await ssh.run(f"rm {file}")).code == 0

    run(bed, body)


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        (text(launch()).replace("RestartSec", "RestartSecs"), "RestartSecs"),
        (
            unit_text(server_unit(replace(LAUNCH, arguments=("/no/python", "-m", "x")), "~")),
            "/no/python",
        ),
    ],
)
def test_a_unit_that_systemd_would_not_follow_is_not_written(
    bed: BoxBed, unit: str, told: str
) -> None:
    async def body(ssh: SshConnection) -> None:
        with pytest.raises(EngineError, match=told) as raised:
            await write_unit(ssh, RECORD, unit)
        assert raised.value.diagnostics[0].code == "FC4100"
        assert NAME not in await list_units(ssh)

    run(bed, body)
