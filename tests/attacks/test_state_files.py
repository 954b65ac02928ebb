"""Files of the state folder in whose place something else lies: each reader ends, in bounds."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from runtime.backup.archive import unpack
from runtime.engines.adapters_file import AdaptersFile
from runtime.engines.launch_records import LaunchRecords
from runtime.engines.supervisor import last_log_lines
from runtime.evals.evaluate import import_run
from runtime.evals.store import EvalStore
from runtime.files import is_locked
from runtime.gateway.admin.state_dir import (
    DEFAULT_GATEWAY,
    known_gateways,
    operator_secret,
    read_table,
)
from runtime.gateway.control.supervisor import wanted
from runtime.gateway.envoy.files import served_clusters, written_table
from runtime.ledger import lease
from runtime.ledger.checkpoint import read_checkpoint
from runtime.ledger.file import FileLedger
from runtime.ledger.outbox import deliver, queued
from runtime.ledger.replica import LedgerReplica
from runtime.library.preflight import FiniteValues
from runtime.operations.machines.outages import read_memory
from runtime.usage.log import segments
from runtime.usage.parquet import _read_marks
from runtime.usage.read import UsageReader
from tests.attacks.conftest import LONGEST_S, call
from tests.attacks.test_bounds import special

START = datetime(2031, 1, 1, tzinfo=UTC)
MEMORY = 900 << 20
"""Upper bound of what a reader may add to the address space. Bytes."""


def ledger(folder: Path) -> FileLedger:
    return FileLedger(folder, run="r", by="b", clock=lambda: START)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "ledger": ("ledger.jsonl", lambda folder: ledger(folder).read()),
    "ledger, newest": ("ledger.jsonl", lambda folder: ledger(folder).newest(0)),
    "ledger, count": ("ledger.jsonl", lambda folder: ledger(folder).count()),
    "ledger, is empty": ("ledger.jsonl", lambda folder: ledger(folder).is_empty()),
    "ledger, append": ("ledger.jsonl", lambda folder: ledger(folder).append([])),
    "copy": ("ledger-as-last-read.jsonl", lambda folder: LedgerReplica(folder).read()),
    "copy, alias": ("ledger-as-last-read.jsonl", lambda folder: LedgerReplica(folder).about("a")),
    "copy, end": ("ledger-as-last-read.jsonl", lambda folder: LedgerReplica(folder).tail()),
    "checkpoint": ("ledger-checkpoint.json", read_checkpoint),
    "copies": ("ledger-as-last-read.1.jsonl", lambda folder: LedgerReplica(folder).cut([])),
    "queue": ("queued/a.json", lambda folder: list(queued(folder / "queued", []))),
    "queue, deliver": ("queued/a.json", lambda folder: deliver(folder / "queued", ledger(folder))),
    "lease": ("lease.json", lease.read),
    "routes": ("routes.json", read_table),
    "secret": ("operator.secret", lambda folder: operator_secret(folder, DEFAULT_GATEWAY)),
    "gateway": ("gateways/main/gateway.json", known_gateways),
    "gateway, wanted": ("gateways/main/wanted", lambda folder: wanted(folder, "main")),
    "gateway, lock": ("run.lock", lambda folder: is_locked(folder / "run.lock")),
    "envoy": ("table.json", written_table),
    "envoy, routes": ("routes.json", served_clusters),
    "envoy, clusters": ("clusters.json", served_clusters),
    "launch": ("servers/a/launch.json", lambda f: list(LaunchRecords(f / "servers").all())),
    "launch, log": ("log", lambda folder: last_log_lines(folder / "log")),
    "launch, adapters": ("a.json", lambda folder: AdaptersFile(folder / "a.json").read()),
    "usage": ("gateways/main/usage.jsonl", lambda f: list(UsageReader(f).rows(START))),
    "usage, segments": ("gateways/main/usage.jsonl", lambda f: list(segments(f))),
    "usage, marks": ("usage/compacted.json", lambda f: _read_marks(f / "usage")),
    "evaluation": ("evals/a.jsonl", lambda folder: EvalStore(folder / "evals").read("a")),
    "evaluation, digest": ("evals/a.jsonl", lambda folder: EvalStore(folder / "evals").digest("a")),
    "evaluation, cache": ("evals/cache/a", lambda f: EvalStore(f / "evals").remove(["b"])),
    "evaluation, import": ("a.json", lambda folder: imported(folder / "a.json", "inspect")),
    "evaluation, lm-eval": ("a.jsonl", lambda folder: imported(folder / "a.jsonl", "lm-eval")),
    "finite": ("a", lambda folder: FiniteValues(folder).silent("a")),
    "outages": ("outages.json", read_memory),
    "backup": ("backup", lambda folder: unpack(folder / "backup", folder / "unpacked")),
}  # fmt: skip
"""By reader, the name of the file, and the reading of the folder."""


def imported(path: Path, source: str) -> object:
    context: Any = None  # nothing is kept of such a file
    return import_run(
        path, source, alias="a", adapter="b", digest="", purpose="gate", context=context
    )


TEXTS = {
    "deep": b"[" * 200_000 + b"\n",
    "deep map": b'{"a":' * 200_000 + b"\n",
    "digits": b"1" * 1_000_000 + b"\n",
    "digits in a map": b'{"seq": ' + b"1" * 1_000_000 + b', "hash": "x"}\n',
    "a list": b"[1, null]\n",
    "a map of odd values": b'{"a": [null], "declared": [], "path": {}}\n',
    "records": b'{"kind": "noted", "records": [null, 1, {"a": []}]}\n',
    "no text": b"\xff\xfe\x00\n",
    "zeros": b"\0" * 100_000,
}
LARGE = {"a line of 200 MB": 200 << 20, "1 TB": 1 << 40}
"""Sizes of files of zeros, which take no room on disk."""


@pytest.fixture
def bounds() -> Iterator[None]:
    """End a reading that takes long or much memory."""

    def end(*_: object) -> None:
        raise AssertionError("reading does not end")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


def place(kind: str, path: Path) -> None:
    """Put something else in the place of a file."""
    path.parent.mkdir(parents=True)
    if kind in TEXTS:
        path.write_bytes(TEXTS[kind])
    elif kind in LARGE:
        with path.open("wb") as stream:
            stream.truncate(LARGE[kind])
    else:
        special(kind, path.parent).rename(path)


IN_PLACE = [
    (reader, kind)
    for reader, (name, _) in READERS.items()
    for kind in (*TEXTS, "fifo", "socket", "folder", "/dev/zero")
    if (name, kind) != ("ledger.jsonl", "fifo")  # a home that hangs: commands have a deadline
]


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize(("reader", "kind"), IN_PLACE)
def test_what_lies_in_the_place_of_a_file_is_read_in_bounds(
    reader: str, kind: str, tmp_path: Path
) -> None:
    name, read = READERS[reader]
    place(kind, tmp_path / "state" / name)
    with suppress(FleetError, OSError):
        read(tmp_path / "state")


COMMANDS = {
    "ledger.jsonl": (("history",), ("status",), ("plan",), ("ledger", "restore")),
    "ledger-as-last-read.jsonl": (("status",),),
    "queued/a.json": (("history",),),
    "routes.json": (("status",), ("plan",), ("gateway", "status")),
    "gateways/main/gateway.json": (("gateway", "status"),),
    "gateways/main/usage.jsonl": (("usage", "summary"), ("status",)),
    "usage/compacted.json": (("usage", "summary"),),
    "servers/a/launch.json": (("server", "list"), ("drift",)),
    "servers/a/log": (("server", "logs", "a"),),
    "evals/a.jsonl": (("eval", "list"), ("eval", "show", "a")),
    "outages.json": (("plan",), ("drift",)),
}
"""Commands by the file that they read."""


@pytest.mark.usefixtures("bounds", "trust_home")
@pytest.mark.parametrize("kind", ["deep", "no text", "/dev/zero"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_with_an_error_of_ours(name: str, kind: str, project: Path) -> None:
    place(kind, project / ".fleetctl" / name)
    for command in COMMANDS[name]:
        done = call(project, *command)
        assert done.code in {0, 1, 2}
        assert "FC1311" not in done.text


@pytest.mark.long
@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("reader", READERS)
def test_a_large_file_is_read_in_bounds(reader: str, kind: str, tmp_path: Path) -> None:
    test_what_lies_in_the_place_of_a_file_is_read_in_bounds(reader, kind, tmp_path)


def test_a_long_word_in_a_log_is_no_long_work(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"{'1' * 100_000}\nValueError: x\n" + "a\n" * 20, "ascii")
    assert last_log_lines(tmp_path / "log").startswith("ValueError: x\n…\n")
