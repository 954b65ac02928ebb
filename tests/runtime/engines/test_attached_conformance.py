"""The same server, reached as one that somebody else runs, from a host that mounts elsewhere."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineError, EngineRejectedError
from fleet.hardware import AttachedServerSpec, HostSpec
from fleet.names import adapter_address
from runtime.engines.attach import AttachEngine
from runtime.json_client import SERVER_KEYS
from tests.runtime.engines.conftest import SLOTS

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench


@pytest.mark.parametrize(
    "shared_bench",
    ["fake", pytest.param("local", marks=[pytest.mark.live, pytest.mark.long], id="vllm")],
    indirect=True,
)
def test_an_attached_server_loads_from_its_own_path_and_is_never_stopped(
    shared_bench: "Bench",
) -> None:
    bench = shared_bench
    name, folder = bench.adapter("attached")
    store = Path(folder).parent
    there = bench.root / "seen-by-the-server"
    if not there.exists():
        there.symlink_to(store)
    port = bench.server.port
    url, key = f"http://127.0.0.1:{port}", bench.root / "their-key"
    declared = AttachedServerSpec("theirs", url, "tiny", 3, 16, 0.0, api_key="file:their-key")
    host = HostSpec("rack", "attach", attached=(declared,), paths=((str(store), str(there)),))

    async def use() -> None:
        ours = bench.engine()
        await ours.start(bench.server)
        key.write_text(SERVER_KEYS[url])
        key.chmod(0o600)
        await ours.close()
        engine = AttachEngine(host, store, root=bench.root)
        await engine.load("theirs", name, folder)
        await engine.load("theirs", name, folder)
        state = await engine.observe()
        found = state.adapters()[adapter_address(name, "theirs")]
        assert found.digest == Path(folder).name
        assert found.path == str(there / Path(folder).name)
        assert state.servers()["theirs"].digest is None
        told = state.attached["theirs"]
        assert (told.takes_adapters, told.max_model_len) == (True, 512)
        assert Path(told.root).name == "tiny"
        assert (await engine.complete("theirs", name, "Hello", max_tokens=4)).model == name
        with pytest.raises(EngineRejectedError):
            await engine.load("theirs", name, bench.adapter("attached", seed=2)[1])
        with pytest.raises(EngineError):
            await engine.stop("theirs")
        assert (await engine.observe()).attached["theirs"].max_loras == SLOTS
        await engine.unload("theirs", name)
        assert (await engine.observe()).adapters() == {}
        await engine.close()

    asyncio.run(use())
