"""Nodes of a cluster fetch a version from its source, over TLS, into the folder that they share."""

import asyncio
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from runtime.engine_registry import make_engine
from runtime.engines.protocol import DirectFile, Engine, HostSetup
from runtime.engines.store import SourceFolder
from runtime.library.layout import SERVED_FILES
from tests.beds.ray_bench import ray_source
from tests.beds.rays import HEAD
from tests.runtime.sources.stand_ins import StandIn

if TYPE_CHECKING:
    from tests.beds.ray_bench import RayBench

pytestmark = [pytest.mark.ray, pytest.mark.proof]
WEIGHTS = "adapter_model.safetensors"
RIGHT = "Bearer of-an-hour"
SECRET = "env:SECRET_OF_THE_NODES"


@pytest.fixture
def shared_bench(ray_bench: "RayBench") -> "RayBench":
    """One server for the whole file."""
    return ray_bench


@dataclass
class Fetching:
    """A version that the nodes may fetch, and its source."""

    bench: "RayBench"
    name: str
    source: StandIn
    told: list[str] = field(default_factory=list)

    @property
    def files(self) -> SourceFolder:
        return SourceFolder.of(self.source.folder, SERVED_FILES)

    @property
    def copy(self) -> Path:
        return Path(self.bench.host.store) / self.files.digest

    def engine(self, bench: "RayBench") -> Engine:
        """Return the engine of a node that fetches."""

        async def direct(digest: str) -> Sequence[DirectFile]:
            url = f"{self.source.url}/files"
            known = digest == self.files.digest
            return [DirectFile(name, f"{url}/{name}", RIGHT) for name in SERVED_FILES if known]

        def report(text: str, *_: int) -> None:
            self.told.append(text)

        host = replace(bench.host, fetch=True)
        return make_engine(
            HostSetup(
                host,
                bench.root,
                bench.state_dir,
                bench.fleet,
                SECRET,
                ("tiny",),
                report,
                "",
                direct,
            )
        )

    def load(self, *benches: "RayBench") -> None:
        """Load the version onto servers at the same time."""

        async def loaded() -> None:
            engines = [(self.engine(bench), bench.server.name) for bench in benches]
            folder = str(self.source.folder)
            await asyncio.gather(*(its.load(server, self.name, folder) for its, server in engines))
            for its, _ in engines:
                await its.close()

        asyncio.run(loaded())

    def loaded_from(self) -> str:
        return self.bench.records.adapters(self.bench.server.name).read()[self.name].path


@pytest.fixture
def fetching(
    ready: "RayBench", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fetching]:
    """A version of the bench's base with weights of its own, at a source of this test."""
    monkeypatch.setenv(SECRET.removeprefix("env:"), ready.secret)
    name, folder = ready.adapter("acme")
    kept = tmp_path / "version"
    shutil.copytree(folder, kept)
    for path in (kept, *kept.iterdir()):
        path.chmod(0o755)

    def refuse_strangers(request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        return None if given == RIGHT else web.Response(status=401)

    with ray_source(ready.bed, kept) as source:
        source.fault = refuse_strangers
        yield Fetching(ready, name, source)
    ready.run(lambda engine: engine.unload(ready.server.name, name))
    for path in Path(ready.host.store).glob(f"{SourceFolder.of(kept, SERVED_FILES).digest}*"):
        shutil.rmtree(path)


def left_over(fetching: Fetching) -> list[str]:
    """Return what a fetch has left in the shared folder beside the copy."""
    names = (path.name for path in Path(fetching.bench.host.store).rglob("*"))
    return [name for name in names if name.endswith((".lock", ".part", ".sh"))]


def test_a_node_fetches_and_nothing_is_sent(fetching: Fetching) -> None:
    fetching.load(fetching.bench)
    assert fetching.loaded_from() == str(fetching.copy)
    assert fetching.source.sent_to == {fetching.bench.host.address: fetching.files.size}
    assert fetching.told == []
    assert {path.stat().st_mode & 0o777 for path in fetching.copy.iterdir()} == {0o444}
    assert RIGHT not in fetching.bench.seen_by_others()
    assert left_over(fetching) == []


def test_two_nodes_that_load_at_the_same_time_fetch_once(fetching: Fetching) -> None:
    other = fetching.bench.on(2)
    other.run(lambda engine: engine.start(other.server))
    try:
        fetching.load(fetching.bench, other)
        assert sum(fetching.source.sent_to.values()) == fetching.files.size
        assert fetching.told == []
    finally:
        other.run(lambda engine: engine.stop(other.server.name))


def test_the_next_run_waits_for_the_fetch_of_an_interrupted_one(fetching: Fetching) -> None:
    asked = threading.Event()
    answer = fetching.source.fault

    def note(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith(WEIGHTS):
            asked.set()
        return answer(request)

    fetching.source.fault, fetching.source.pause_s = note, 0.2

    async def interrupted() -> None:
        engine = fetching.engine(fetching.bench)
        folder = str(fetching.source.folder)
        load = engine.load(fetching.bench.server.name, fetching.name, folder)
        running_load = asyncio.create_task(load)
        assert await asyncio.to_thread(asked.wait, 60)
        running_load.cancel()
        await asyncio.gather(running_load, return_exceptions=True)
        await engine.close()

    asyncio.run(interrupted())
    assert not fetching.copy.exists()
    fetching.load(fetching.bench)
    assert fetching.source.sent_to == {fetching.bench.host.address: fetching.files.size}
    assert fetching.told == []


def test_what_arrived_before_is_not_fetched_again(fetching: Fetching) -> None:
    part = fetching.copy.with_name(f"{fetching.copy.name}.part")
    part.mkdir()
    weights = (fetching.source.folder / WEIGHTS).read_bytes()
    (part / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    fetching.load(fetching.bench)
    assert fetching.source.starts == [len(weights) // 2]
    assert (fetching.copy / WEIGHTS).read_bytes() == weights


def test_what_arrives_damaged_is_told_and_brought_from_here(fetching: Fetching) -> None:
    size = (fetching.source.folder / WEIGHTS).stat().st_size
    fetching.source.fault = lambda request: (
        web.Response(body=bytes(size)) if request.path.endswith(WEIGHTS) else None
    )
    fetching.load(fetching.bench)
    (told,) = fetching.told
    assert told.endswith(f"as `node1` did not fetch `{WEIGHTS}` as its digest says")
    assert fetching.loaded_from() == str(fetching.copy)
    assert SourceFolder.of(fetching.copy, SERVED_FILES).digest == fetching.files.digest
    assert left_over(fetching) == []


def test_a_copy_with_other_bytes_is_left_and_fetched_to_another_path(fetching: Fetching) -> None:
    bench = fetching.bench
    fetching.load(bench)
    bench.run(lambda engine: engine.unload(bench.server.name, fetching.name))
    weights = fetching.copy / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(bytes(weights.stat().st_size))
    fetching.load(bench)
    (told,) = fetching.told
    assert f"`{fetching.copy}` of `node1` has other bytes than its digest in `{WEIGHTS}`" in told
    assert fetching.loaded_from() == f"{fetching.copy}-2"
    assert fetching.source.sent_to == {bench.host.address: 2 * fetching.files.size}


def test_a_version_is_brought_from_here_while_the_head_is_away(fetching: Fetching) -> None:
    bench = fetching.bench
    away = replace(bench, host=replace(bench.host, cluster=f"http://{HEAD}:1"))
    fetching.load(away)
    (told,) = fetching.told
    assert "`node1` ran no script (" in told
    assert fetching.loaded_from() == str(fetching.copy)
    assert fetching.source.sent == {}
