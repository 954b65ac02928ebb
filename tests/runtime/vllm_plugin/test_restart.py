"""What a server with the plug-in answers after a restart that fleetctl did not make.

The tests are a story: each goes on where the one before has left the server.
"""

import asyncio
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from fleet.errors import EngineRejectedError
from fleet.names import adapter_address
from fleet.resources import LoadedAdapter
from runtime.engines.adapters_file import AdapterEntry
from runtime.state_folder import source_name
from tests.runtime.engines.conftest import CPU_LORAS
from tests.runtime.vllm_plugin.conftest import SupervisedServer
from tests.runtime.vllm_plugin.hostile_names import hostile_names


@contextmanager
def late_requests(server: SupervisedServer, model: str) -> Iterator[None]:
    """Send requests for a model all the time while the block runs."""
    ended = Event()

    def go_on() -> None:
        while not ended.is_set():
            server.status(model)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(go_on) for _ in range(2)]
        try:
            yield
        finally:
            ended.set()
    for future in futures:
        future.result()


@contextmanager
def other_bytes(folder: Path) -> Iterator[None]:
    """Change a weight in a copy while the block runs."""
    weights = folder / "adapter_model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-4] + b"\0\0\x80\x3f")
    try:
        yield
    finally:
        weights.write_bytes(right)


def test_a_late_request_brings_no_unloaded_adapter_back(supervised: SupervisedServer) -> None:
    name, folder = supervised.load("acme")
    entries = supervised.bench.records.adapters(supervised.name)
    assert entries.read() == {name: AdapterEntry(str(folder), folder.name)}
    with late_requests(supervised, name):
        supervised.unload(name)
    assert entries.read() == {}
    assert supervised.status(name) == 404
    assert supervised.listed() == {}


def test_the_entry_has_to_go_first(supervised: SupervisedServer) -> None:
    """The other order, which fleetctl does not take: the adapter comes back."""
    name, folder = supervised.load("acme")
    supervised.unload(name)
    supervised.bench.records.adapters(supervised.name).add(
        name, AdapterEntry(str(folder), folder.name)
    )
    assert supervised.status(name) == 200
    assert supervised.listed() == {name: str(folder)}
    supervised.unload(name)
    assert supervised.status(name) == 404
    assert supervised.listed() == {}


def test_only_loaded_adapters_answer_after_a_restart_and_with_the_same_bytes(
    supervised: SupervisedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = dict(supervised.load(client) for client in ("acme", "birch", "corvid", "delta"))
    before = {name: supervised.answer(name) for name in loaded}
    assert len({*before.values(), supervised.answer("tiny")}) == 5
    gone, left = supervised.load("elm")
    supervised.unload(gone)
    supervised.kill_and_restart()
    assert supervised.listed() == {}
    state = supervised.bench.run(lambda engine: engine.observe())
    assert state.adapters() == {}
    assert state.resolvable == {
        adapter_address(name, supervised.name): LoadedAdapter(name, supervised.name, folder.name)
        for name, folder in loaded.items()
    }
    assert [supervised.status(name) for name in (gone, left.name, str(left))] == [404, 404, 404]
    first, second, third, changed = loaded
    times = []
    for name in (first, second):
        began = time.monotonic()
        assert supervised.answer(name) == before[name]
        times.append(f"{1000 * (time.monotonic() - began):.0f} ms")
    with capsys.disabled():
        print(f"\nfirst answers after a restart: {', '.join(times)}")  # noqa: T201 (to be read)
    assert supervised.answers(third, 8) == [before[third]] * 8
    with other_bytes(loaded[changed]):
        assert supervised.status(changed) == 404
        assert set(supervised.listed()) == {first, second, third}
    if supervised.bench.host.engine == "local":
        text = f"Adapter '{changed}' is not loaded: {loaded[changed]} has digest"
        assert text in supervised.log()
    assert supervised.answer(changed) == before[changed]
    assert supervised.listed() == {name: str(folder) for name, folder in loaded.items()}
    assert {name: supervised.answer(name) for name in loaded} == before
    state = supervised.bench.run(lambda engine: engine.observe())
    assert state.resolvable == {}
    assert len(state.adapters()) == len(loaded)
    for client in ("acme", "birch", "corvid", "delta"):  # as `reconcile` does, after the requests
        supervised.load(client)
    assert supervised.listed() == {name: str(folder) for name, folder in loaded.items()}


def test_hostile_names_resolve_to_nothing(supervised: SupervisedServer) -> None:
    _, left = supervised.bench.adapter("elm")
    names = [name for name in hostile_names(Path(left)) if name]  # the empty name is the base
    assert len(names) >= 40
    listed = supervised.listed()
    statuses = {name: supervised.status(name) for name in names}
    assert {name: status for name, status in statuses.items() if status != 404} == {}
    assert supervised.listed() == listed


def test_a_broken_file_is_a_404_and_no_error_of_the_server(supervised: SupervisedServer) -> None:
    name, _ = supervised.load("fjord")
    unload = {"lora_name": name}

    async def use() -> None:
        async with supervised.bench.client() as http:
            await http.post("/v1/unload_lora_adapter", unload)

    asyncio.run(use())  # with its entry left in the file, as no command of fleetctl does
    right = supervised.file.read_bytes()
    for content in (b"{", b"[]", b'{"' + name.encode() + b'": 1}', b""):
        supervised.file.write_bytes(content)
        assert supervised.status(name) == 404
    supervised.file.unlink()
    assert supervised.status(name) == 404
    supervised.file.write_bytes(right)
    assert supervised.status(name) == 200


@pytest.mark.live
@pytest.mark.long
@pytest.mark.parametrize("supervised", ["local"], indirect=True)
def test_an_evicted_adapter_is_read_again_with_its_own_bytes(
    supervised: SupervisedServer, tmp_path: Path
) -> None:
    """The fake engine reads what lies in the folder, as a vLLM without the plug-in does."""
    name, folder = supervised.load("gale")
    right = supervised.answer(name)
    others = [supervised.load(f"neighbour{number}")[0] for number in range(CPU_LORAS)]
    shutil.copytree(folder, tmp_path / "version")
    (folder.parent / source_name(folder.name)).symlink_to(tmp_path / "version")
    with other_bytes(folder):
        assert supervised.answer(name) == right
    for other in others:
        supervised.answer(other)
    shutil.rmtree(folder)
    assert supervised.answer(name) == right
    assert f"{folder} is damaged; its bytes are read from {folder.parent}/.source-" in (
        supervised.log()
    )


@pytest.mark.live
@pytest.mark.long
@pytest.mark.parametrize("supervised", ["local"], indirect=True)
def test_other_bytes_under_a_digest_are_not_loaded(supervised: SupervisedServer) -> None:
    name, left = supervised.bench.adapter("hazel")
    folder = Path(left)
    with other_bytes(folder), pytest.raises(EngineRejectedError, match="has other bytes"):
        supervised.load("hazel")
    assert supervised.status(name) == 404
    supervised.load("hazel")
    assert supervised.status(name) == 200
