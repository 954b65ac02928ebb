"""Real servers of sources: a registry and an object store; what they hold is gone at the end."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

START_S = 30
LOGIN = "ci:$2b$04$CIrat1NK0v/IRFG54G1YeeerFYm3RTezxGpbOm.rjmdDQWbegn1NK"  # `secret`
REGISTRY = """\
version: 0.1
log: {{level: error}}
{login}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
OBJECT_STORE = """\
[global]
fsid = 00000000-0000-0000-0000-000000000001
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
[client]
rgw_backend_store = dbstore
rgw_config_store = dbstore
rgw_data = {root}
dbstore_db_dir = {root}
dbstore_config_uri = file:{root}/config.db
log_file = {root}/log
rgw_frontends = beast endpoint=127.0.0.1:{port}
run_dir = {root}
admin_socket = {root}/admin
"""


def until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("it did not start")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry of Debian's package docker-registry."""
    with serving_registry(tmp_path) as address:
        yield address


@pytest.fixture
def closed_registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that asks for a name and a password."""
    (tmp_path / "htpasswd").write_text(f"{LOGIN}\n", encoding="utf-8")
    login = f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'htpasswd'}}}}}"
    with serving_registry(tmp_path, login) as address:
        yield address


@contextmanager
def serving_registry(tmp_path: Path, login: str = "") -> Iterator[str]:
    command, port, file = (
        "docker-registry",
        free_port(),
        tmp_path / "registry.yml",
    )
    file.write_text(
        REGISTRY.format(root=tmp_path / "registry", port=port, login=login), encoding="utf-8"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([command, "serve", str(file)], stdout=log, stderr=log)
    until_listening(port, process)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of Ceph's object store; the AWS variables name its user."""
    with serving_object_store(tmp_path) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield variables["AWS_ENDPOINT_URL"]


@contextmanager
def serving_object_store(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run Ceph's object store; yield the variables that lead to it."""
    command, admin = "radosgw", "radosgw-admin"
    root, port = tmp_path / "rgw", free_port()
    root.mkdir()
    file = root / "ceph.conf"
    file.write_text(OBJECT_STORE.format(root=root, port=port), encoding="utf-8")
    options = ["-c", str(file), "--no-mon-config"]
    user = ["user", "create", "--uid=t", "--display-name=t", "--access-key=ak", "--secret-key=sk"]
    with (root / "out").open("wb") as log:
        process = subprocess.Popen(
            [command, *options, "-n", "client.rgw", "-f"], stdout=log, stderr=log
        )
        until_listening(port, process)
        subprocess.run([admin, *options, *user], check=True, stdout=log, stderr=log)
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "ak", "AWS_SECRET_ACCESS_KEY": "sk", "AWS_REGION": "default",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait()
