"""A failover of PostgreSQL under Patroni, with a synchronous standby, while runs append.

Needs `patroni` and `etcd-server` of Debian beside PostgreSQL; `make proof-failover` runs it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.errors import FleetError
from runtime.ledger import open_ledger
from runtime.ledger.protocol import Ledger
from runtime.state.home import HomeAddress
from tests.ports import free_port
from tests.postgres import PASSWORD, bed, lesser_user, programs

pytestmark = [pytest.mark.proof, pytest.mark.postgresql]
NODE = """
scope: fleet
name: pg{n}
restapi: {{listen: "127.0.0.1:{api}", connect_address: "127.0.0.1:{api}"}}
etcd3: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    synchronous_mode: true
    postgresql: {{parameters: {{max_connections: 40, shared_buffers: 32MB}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, data-checksums]
postgresql:
  listen: 127.0.0.1:{pg}
  connect_address: 127.0.0.1:{pg}
  data_dir: {folder}/data{n}
  bin_dir: {programs}
  pgpass: {folder}/pgpass{n}
  authentication:
    superuser: {{username: postgres, password: {password}}}
    replication: {{username: repl, password: {password}}}
  parameters: {{unix_socket_directories: "{folder}"}}
  pg_hba: ["host all all 127.0.0.1/32 scram-sha-256",
           "host replication all 127.0.0.1/32 scram-sha-256"]
"""
APPEND = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4
from fleet.errors import FleetError
from fleet.history import Noted
from runtime.ledger import open_ledger
from runtime.state.documents import HomeAddress
name, address = sys.argv[1], HomeAddress("shop", postgresql="env:FLEET_DB")
mine, number = open_ledger(Path(), "r", "b", lambda: datetime.now(UTC), address), 0
while not Path(sys.argv[2]).exists():
    event = Noted(f"{name} {number}", entry_id=uuid4().hex)
    try:
        mine.append([event])
    except FleetError as error:  # unknown whether it is there: the id tells
        while True:
            try:
                mine.append([event])
                break
            except FleetError:
                pass
    number += 1
    print(number, flush=True)
"""


@contextmanager
def started(words: list[str], folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {**os.environ, "HOME": str(folder)}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True,
            **lesser_user(),
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cluster(ports: list[int]) -> dict[str, dict[str, Any]]:
    """Return the members of the cluster by role."""
    for port in ports:
        try:
            members = httpx.get(f"http://127.0.0.1:{port}/cluster", timeout=2).json()["members"]
        except (httpx.HTTPError, ValueError, KeyError):
            continue
        return {member["role"]: member for member in members if member["state"] != "stopped"}
    return {}


def waited_for(role: str, ports: list[int], without: int = 0) -> int:
    """Wait until a member other than `without` has a role; return its port."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        found = cluster(ports).get(role)
        if found and found["port"] != without and found["state"] in ("running", "streaming"):
            return int(found["port"])
        time.sleep(0.2)
    raise AssertionError(cluster(ports))


def test_a_failover_to_a_synchronous_standby_loses_and_doubles_no_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patroni, etcd = shutil.which("patroni"), shutil.which("etcd")
    assert patroni, "apt-get install patroni"
    assert etcd, "apt-get install etcd-server"
    pgs, apis = [free_port(), free_port()], [free_port(), free_port()]
    store, peer = free_port(), free_port()
    with bed() as folder, ExitStack() as stack:
        client, own = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
        words = [etcd, "--data-dir", str(folder / "etcd"), "--initial-cluster", f"default={own}"]
        for side, url in (("client", client), ("peer", own)):
            words += [f"--listen-{side}-urls", url]
        words += ["--advertise-client-urls", client, "--initial-advertise-peer-urls", own]
        stack.enter_context(started(words, folder, "etcd"))
        nodes = []
        for n, (pg, api) in enumerate(zip(pgs, apis, strict=True)):
            file = folder / f"node{n}.yml"
            file.write_text(
                NODE.format(n=n, pg=pg, api=api, etcd=store, folder=folder, programs=programs(),
                            password=PASSWORD)
            )  # fmt: skip
            nodes.append(stack.enter_context(started([patroni, str(file)], folder, f"node{n}")))
        leader = waited_for("leader", apis)
        waited_for("sync_standby", apis)
        hosts = ",".join(f"127.0.0.1:{pg}" for pg in pgs)
        monkeypatch.setenv("FLEET_DB", f"postgresql://postgres:{PASSWORD}@{hosts}/postgres")
        ended = folder / "ended"
        root = Path(__file__).parents[2]
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", APPEND, name, str(ended)], cwd=root, stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        while counted() < 200:
            time.sleep(0.1)
        number = pgs.index(leader)
        postmaster = int((folder / f"data{number}/postmaster.pid").read_text().split()[0])
        before, began = counted(), time.monotonic()
        for pid in (nodes[number].pid, postmaster):
            os.kill(pid, signal.SIGKILL)
        waited_for("leader", apis, without=leader)
        while counted() < before + 200:
            time.sleep(0.1)
        took = time.monotonic() - began
        ended.write_text("")
        acknowledged = [int(writer.communicate()[0].split()[-1]) for writer in writers]
        entries = ledger().read()
        texts = [entry.document()["text"] for entry in entries]
        for name, count in zip("ab", acknowledged, strict=True):
            own_texts = [text for text in texts if text.startswith(name)]
            assert own_texts == [f"{name} {n}" for n in range(count)]
        assert [entry.seq for entry in entries] == list(range(1, sum(acknowledged) + 1))
        sys.stdout.write(
            f"\n{len(entries)} entries acknowledged, 0 lost, 0 doubled, 0 holes: {before} before "
            f"the primary and its Patroni were killed, and 200 more {took:.1f} s later\n"
        )


def counted() -> int:
    """Return the number of entries; 0 while there is no primary."""
    try:
        return ledger().count()
    except FleetError:
        return 0


def ledger() -> Ledger:
    address = HomeAddress("shop", postgresql="env:FLEET_DB")
    return open_ledger(Path(), "r", "b", lambda: datetime.now(UTC), address)
