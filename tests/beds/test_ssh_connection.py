"""Connections to real boxes: scripts, their ends, and what stands between."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import EngineError, EngineRejectedError, EngineTimedOutError
from runtime.engines.remote.connection import SshConnection
from runtime.trust import UntrustedError
from tests.beds.boxes import BoxBed
from tests.ports import free_port

pytestmark = pytest.mark.boxes
_CONNECTION = 'echo "$SSH_CONNECTION"'
"""Prints both ends of the TCP connection that a script came by."""
_BOOT = "cut -d ' ' -f 22 /proc/1/stat"
"""Prints the start time of the first process, which differs between two boots of a box."""


async def refused(call: Awaitable[Any]) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await call
    return raised.value


def do(command: str) -> str:
    """Run a command as a person pastes it."""
    return subprocess.run(  # noqa: S602 (a shell is what it is pasted into)
        command, shell=True, check=True, capture_output=True, text=True
    ).stdout


def end_shared(ssh: SshConnection) -> None:
    do(shlex.join((*ssh.words("-O", "exit"), ssh.address)))


def code_of(error: EngineError) -> str:
    return error.diagnostics[0].code


def test_a_script_gives_its_output_and_status(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection()
        done = await ssh.run("pwd; cat; echo 'it''s' >&2; exit 3")
        assert done == (3, "/home/fleetctl\n", "its\n")
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_script_that_ends_with_255_is_told_from_a_failure_of_ssh(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection()
        assert (await ssh.run("echo out; exit 255"))[:2] == (255, "out\n")
        assert (await ssh.run("sh -c 'kill -9 $$'")).code == 128 + 9
        lost = await refused(ssh.run("echo begun; kill -9 $$"))  # the shell around the script
        assert (type(lost), code_of(lost)) == (EngineTimedOutError, "FC4094")
        closed = await refused(bed.connection("box1", "-p", "2299").run("true"))
        assert code_of(closed) == "FC4090"
        assert "Connection refused" in str(closed)
        await ssh.close(end_shared=True)
        bed.do("root", "box1", "usermod --shell /usr/sbin/nologin fleetctl")
        barred = await refused(ssh.run("true"))
        assert code_of(barred) == "FC4090"

    try:
        asyncio.run(body())
    finally:
        bed.do("root", "box1", "usermod --shell /bin/bash fleetctl")


def test_a_script_beyond_its_deadline_is_given_up_and_the_connection_goes_on(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection()
        before = await ssh.run(_CONNECTION)
        late = await refused(ssh.run("echo begun; exec sleep 1000", timeout_s=1))
        assert (type(late), code_of(late)) == (EngineTimedOutError, "FC4094")
        assert await ssh.run(_CONNECTION) == before
        flood = await refused(ssh.run("yes", most=1000))
        assert (type(flood), code_of(flood)) == (EngineRejectedError, "FC4095")
        left = await ssh.run("sleep 1000 & echo $!")  # it keeps the output open
        assert (await ssh.run(f"kill {left.stdout}")).code == 0
        assert await ssh.run(_CONNECTION) == before
        await ssh.close(end_shared=True)

    asyncio.run(body())


@pytest.mark.parametrize("fault", ["cut", "hole"])
def test_a_box_that_is_cut_off_leaves_the_outcome_unknown(bed: BoxBed, fault: str) -> None:
    async def body() -> None:
        ssh = bed.connection("box2")
        marked = f"begun-{fault}"
        script = asyncio.create_task(ssh.run(f"touch {marked}; exec sleep 1000", timeout_s=300))
        while (await ssh.run(f"test -e {marked}")).code:
            assert not script.done()
        bed.do(fault, "box2")
        assert code_of(await refused(script)) == "FC4094"
        assert code_of(await refused(ssh.run("true"))) == "FC4090"
        bed.until_mended("box2")
        assert (await ssh.run(f"rm {marked}")).code == 0
        await ssh.close(end_shared=True)

    try:
        asyncio.run(body())
    finally:
        bed.until_mended("box2")


def test_an_unknown_host_key_is_shown_with_the_command_that_accepts_it(
    bed: BoxBed, tmp_path: Path
) -> None:
    async def body() -> None:
        known = tmp_path / "known"
        ssh = bed.connection("box1", "-o", f"UserKnownHostsFile={known}", "-o", "HashKnownHosts=no")
        error = await refused(ssh.run("true"))
        assert code_of(error) == "FC4091"
        key = bed.folder / "boxes/box1/upper/etc/ssh/ssh_host_ed25519_key.pub"
        fingerprint = do(f"ssh-keygen -lf {key}").split()[1]
        (told,) = error.diagnostics
        assert fingerprint in told.detail
        do(told.command.replace("=ask", "=accept-new -o ControlPath=none"))  # nobody answers here
        assert (await ssh.run("true")).code == 0
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_changed_host_key_is_refused_with_the_command_that_forgets_the_old(
    bed: BoxBed, tmp_path: Path
) -> None:
    async def body() -> None:
        known = tmp_path / "known"
        lines = (bed.folder / "known_hosts").read_text(encoding="ascii").splitlines()
        other = lines[1].partition(" ")[2]
        known.write_text(f"{lines[0].split()[0]} {other}\n", encoding="ascii")
        ssh = bed.connection("box1", "-o", f"UserKnownHostsFile={known}")
        error = await refused(ssh.run("true"))
        assert code_of(error) == "FC4092"
        (told,) = error.diagnostics
        assert re.search(r"SHA256:\S{43},", told.detail)
        do(told.command)
        assert code_of(await refused(ssh.run("true"))) == "FC4091"

    asyncio.run(body())


def test_a_key_that_is_refused_asks_for_no_password(bed: BoxBed) -> None:
    error = asyncio.run(refused(bed.connection("nobody@box1").run("true")))
    assert code_of(error) == "FC4093"
    assert "Permission denied" in str(error)


def test_a_host_that_the_operator_does_not_trust_is_not_contacted(bed: BoxBed) -> None:
    error = asyncio.run(refused(bed.connection("box3").run("true")))
    assert isinstance(error, UntrustedError)
    assert error.diagnostics[0].command == "fleetctl trust add ssh://box3:22"


def test_20_scripts_at_once_share_a_connection(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection()
        counted = (
            "mkdir -p /tmp/running; touch /tmp/running/$$; ls /tmp/running | wc -l; sleep 0.2; "
            f"rm /tmp/running/$$; {_CONNECTION}"
        )
        results = await asyncio.gather(*(ssh.run(counted) for _ in range(20)))
        assert {result.code for result in results} == {0}
        assert len({result.stdout.splitlines()[1] for result in results}) == 1
        assert max(int(result.stdout.split()[0]) for result in results) <= 8
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_box_that_rebooted_is_reached_again_without_a_command(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection("box2")
        boots = {(await ssh.run(_BOOT)).stdout}
        bed.do("reboot", "box2")
        while len(boots) == 1:
            try:
                boots.add((await ssh.run(_BOOT)).stdout)
            except EngineError as error:
                assert code_of(error) in {"FC4090", "FC4093", "FC4094"}  # noqa: PT017
        results = await asyncio.gather(*(ssh.run(_CONNECTION) for _ in range(20)))
        assert {result.code for result in results} == {0}
        await ssh.close(end_shared=True)

    try:
        asyncio.run(body())
    finally:
        bed.do("on", "box2")


def test_a_connection_through_a_jump_host_is_shared_too(bed: BoxBed) -> None:
    async def body() -> None:
        ssh = bed.connection("box1", "-o", "ProxyJump=box2")
        first = await ssh.run(_CONNECTION)
        assert first.stdout.startswith("10.77.0.12 ")
        assert await ssh.run(_CONNECTION) == first
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_port_is_forwarded_until_the_forward_is_cancelled(bed: BoxBed) -> None:
    async def body() -> None:
        ssh, local = bed.connection(), free_port()
        await ssh.forward(local, 22)
        await ssh.forward(local, 22)
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        writer.close()
        taken = await refused(bed.connection("box2").forward(local, 22))
        assert code_of(taken) == "FC4096"
        await ssh.cancel_forward(local, 22)
        await ssh.cancel_forward(local, 22)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", local)
        await ssh.close(end_shared=True)
        await bed.connection("box2").close(end_shared=True)

    asyncio.run(body())


def test_a_forward_is_made_anew_after_a_shared_connection_ended(bed: BoxBed) -> None:
    async def body() -> None:
        ssh, local = bed.connection(), free_port()
        await ssh.run("true")
        end_shared(ssh)
        await ssh.forward(local, 22)
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        writer.close()
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_shared_connection_is_ended_only_by_the_command_that_opened_it(bed: BoxBed) -> None:
    async def body() -> None:
        first, second = bed.connection(), bed.connection()
        one = await first.run(_CONNECTION)
        assert await second.run(_CONNECTION) == one
        await second.close(end_shared=True)
        await first.close()
        third = SshConnection(first.address, first.options, first.folder)
        assert await third.run(_CONNECTION) == one
        end_shared(third)

    asyncio.run(body())
