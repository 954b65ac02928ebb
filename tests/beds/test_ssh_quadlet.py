"""The engine `ssh` with servers in containers of a box's podman, which run the fake server."""

import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING

import pytest

from fleet.environment import server_key
from fleet.hosts import HostFacts
from fleet.names import adapter_address
from runtime.engines.protocol import Engine
from runtime.engines.remote.preparation import carry_out, preparation, read_facts
from runtime.engines.remote.units import launch_log
from tests.beds.engine_bench import UNITS

if TYPE_CHECKING:
    from tests.beds.engine_bench import BoxBench

pytestmark = pytest.mark.boxes
QUADLETS = "~/.config/containers/systemd"
# A box shares files, processes and limits with this machine: its containers get them from there.
_CONTAINERS = f"""\
[containers]
keyring = false
pids_limit = 0
pidns = "host"
volumes = ["/usr:/usr:ro", "{sys.base_prefix}:{sys.base_prefix}:ro",
  "{Path(__file__).parents[2]}:{Path(__file__).parents[2]}:ro"]
"""
_IMAGE = f"""\
mkdir -p .config/containers || exit
echo '[storage]\ndriver = "vfs"' >.config/containers/storage.conf
cat >.config/containers/containers.conf <<'END'
{_CONTAINERS}END
rm -rf image && mkdir -p image/fake image/tmp image/root && cd image && for name in bin lib lib64
do ln -s usr/$name $name; done
cat >fake/python3 <<'END'
#!/bin/sh
[ "$1" != -I ] || exec {sys.executable} "$@"
echo in a container
shift 2
exec {sys.executable} -m runtime.fake_vllm.server "$@"
END
chmod +x fake/python3
tar c . | podman import --quiet --change 'ENV PATH=/fake:/usr/bin' - localhost/fake:1 >/dev/null
podman image inspect --format '{{{{index .RepoDigests 0}}}}' localhost/fake:1
"""
_KILL = """\
podman kill --signal KILL systemd-{unit} >/dev/null
until [ "$(systemctl --user show -P NRestarts {unit})" = 1 ] &&
  systemctl --user --quiet is-active {unit}; do :; done
"""
_CLEAN = f"rm -rf image {QUADLETS}/fleetctl-*; podman system reset --force >/dev/null 2>&1; :"


@pytest.fixture
def by_image(shared_bench: "BoxBench") -> "Iterator[BoxBench]":
    """The bench with the box's image in place of its interpreter."""
    try:
        image = shared_bench.there(f"command -v podman >/dev/null || exit 9\n{_IMAGE}").strip()
    except CalledProcessError as error:
        if error.returncode != 9:
            raise
        pytest.skip("the box has no podman")
    assert shared_bench.server.flags is not None
    flags = replace(shared_bench.server.flags, image=image)
    server = replace(shared_bench.server, flags=flags, digest=flags.digest)
    host = replace(shared_bench.host, image=image, python="")
    bench = replace(shared_bench, host=host, server=server)

    async def prepared() -> HostFacts:
        ssh = bench.engine().ssh
        for step in preparation(host, await read_facts(ssh, host)):
            await carry_out(ssh, host, step, lambda _: None)
        return await read_facts(ssh, host)

    facts = bench.run(lambda _: prepared())
    assert preparation(host, facts) == ()
    assert [facts.told(key) for key in ("podman", "newuidmap", "image")] == ["yes"] * 3
    assert facts.told("python") == platform.python_version()
    assert facts.told("vllm") == "none"
    yield bench
    shared_bench.there(_CLEAN)


def test_a_server_in_a_container_is_started_joined_and_stopped_as_any_other(
    by_image: "BoxBench",
) -> None:
    bench, server = by_image, by_image.server.name
    name, folder = bench.adapter("acme")

    async def use(engine: Engine) -> None:
        await engine.start(bench.server)
        await engine.load(server, name, folder)
        assert (await engine.observe()).servers() == {server: bench.server}

    bench.run(use)
    unit = bench.unit()
    assert (unit.state, unit.is_enabled, unit.is_edited, unit.restarts) == (
        "active",
        True,
        False,
        0,
    )
    key = server_key("secret-of-the-box", server, bench.served_launch())
    seen = bench.seen_by_others() + bench.there(f"cat {QUADLETS}/fleetctl-*")
    assert key not in seen
    assert "in a container\n" in bench.run(lambda _: launch_log(bench.engine().ssh, server, None))
    bench.there(_KILL.format(unit=f"fleetctl-{server}"))
    bench.start()
    assert bench.unit().restarts == 1
    assert bench.unit().invocation != unit.invocation
    found = bench.observe()
    assert set(found.resolvable) == {adapter_address(name, server)}
    assert found.notes == ()

    bench.there(f"echo '# by hand' >>{QUADLETS}/fleetctl-{server}.container")
    assert bench.unit().is_edited
    bench.run(lambda engine: engine.stop(server))
    assert bench.observe().resources == {}
    assert bench.there(f"ls {QUADLETS} {UNITS} | grep fleetctl-; podman ps --all --quiet") == ""
