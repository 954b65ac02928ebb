"""Tests that every engine passes, shipped or of an extension, for a class of tests to inherit.

They are collected by pytest and import nothing of it. `docs/extending.md` shows a whole example.
"""

import asyncio
import json
import random
import shutil
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fleet.errors import EngineRejectedError
from fleet.names import AdapterName, adapter_address
from fleet.resources import LoadedAdapter, Server
from runtime.engines.protocol import Completion, Engine
from runtime.extensions import shipped
from runtime.library.layout import folder_digest
from runtime.state_folder import STORE

BASE: Final = shipped("examples/quickstart") / "models" / "base" / "tiny"
"""Folder of the base that the tests' adapters fit."""
PROMPT: Final = "I was charged twice for May."
Use = Callable[[Engine], Coroutine[Any, Any, Any]]


class TestedEngine(Protocol):
    """A server to test an engine on, and adapters for the server."""

    @property
    def server(self) -> Server:
        """The server: `max_loras` 3, `max_lora_rank` 16, `max_cpu_loras` 5 or more."""
        ...

    def run(self, use: Use) -> Any:
        """Run a coroutine with an engine of its own, which is closed at the end."""
        ...

    def adapter(self, client: str, *, rank: int = 4, seed: int | None = None) -> tuple[str, str]:
        """Write an adapter; return its name and its folder, named by its digest."""
        ...

    def path_there(self, folder: str) -> str:
        """Return the path of a folder in the eyes of the server."""
        ...


@dataclass(frozen=True, slots=True)
class EngineUnderTest:
    """The bench of an engine whose servers read folders of this machine."""

    server: Server
    make: Callable[[], Engine]
    """Makes a new engine of the server's host: what it knows, it has kept on disk."""
    state_dir: Path

    def run(self, use: Use) -> Any:
        """Run a coroutine with an engine of its own, which is closed at the end."""

        async def body() -> Any:
            engine = self.make()
            try:
                return await use(engine)
            finally:
                await engine.close()

        return asyncio.run(body())

    def adapter(self, client: str, *, rank: int = 4, seed: int | None = None) -> tuple[str, str]:
        """Write an adapter; return its name and its folder, named by its digest."""
        return write_version(self.state_dir, client, rank=rank, seed=seed)

    def path_there(self, folder: str) -> str:
        """Return the path of a folder in the eyes of the server."""
        return folder


class EngineConformance:
    """The tests; a subclass has a fixture `ready`, which gives a bench made ready by `prepare`."""

    def refusal(self, what: str, error: EngineRejectedError) -> None:
        """Judge the words of a refusal: of `other bytes`, `missing`, `rank` or `unknown model`."""

    def test_a_loaded_adapter_is_listed_with_its_digest_and_answers(
        self, ready: TestedEngine
    ) -> None:
        name, folder = ready.adapter("acme")

        async def use(engine: Engine) -> Completion:
            await engine.load(ready.server.name, name, folder)
            found = (await engine.observe()).adapters()[adapter_address(name, ready.server.name)]
            assert found == LoadedAdapter(name, ready.server.name, Path(folder).name)
            assert found.path == ready.path_there(folder)
            return await engine.complete(ready.server.name, name, PROMPT, max_tokens=8)

        answer = ready.run(use)
        assert answer.text
        assert answer.model == name
        assert 0 < answer.completion_tokens <= 8

    def test_the_server_is_seen_as_it_was_started(self, ready: TestedEngine) -> None:
        state = ready.run(lambda engine: engine.observe())
        (server,) = state.servers().values()
        assert server == ready.server
        assert state.unknown_servers == {}
        assert [*state.urls] == [server.name]
        assert state.boots[server.name]

    def test_adapters_answer_differently_from_each_other_and_from_the_base(
        self, ready: TestedEngine
    ) -> None:
        async def use(engine: Engine) -> set[str]:
            server, base = ready.server.name, ready.server.base
            texts = {(await engine.complete(server, base, PROMPT, 12)).text}
            for client in ("acme", "birch"):
                name, folder = ready.adapter(client)
                await engine.load(server, name, folder)
                texts.add((await engine.complete(server, name, PROMPT, 12)).text)
            return texts

        assert len(ready.run(use)) == 3

    def test_loading_again_from_the_same_path_is_fine(self, ready: TestedEngine) -> None:
        name, folder = ready.adapter("acme")

        async def use(engine: Engine) -> int:
            await engine.load(ready.server.name, name, folder)
            await engine.load(ready.server.name, name, folder)
            return len((await engine.observe()).adapters())

        assert ready.run(use) == 1

    def test_a_name_is_never_given_to_other_bytes(self, ready: TestedEngine) -> None:
        name, folder = ready.adapter("acme", seed=1)
        _, other = ready.adapter("acme", seed=2)

        async def use(engine: Engine) -> list[str]:
            await engine.load(ready.server.name, name, folder)
            refused = await refusal_of(engine.load(ready.server.name, name, other))
            self.refusal("other bytes", refused)
            return [adapter.path for adapter in (await engine.observe()).adapters().values()]

        assert ready.run(use) == [ready.path_there(folder)]

    def test_two_loads_of_one_adapter_at_the_same_time_both_succeed(
        self, ready: TestedEngine
    ) -> None:
        name, folder = ready.adapter("acme")

        async def use(engine: Engine) -> int:
            await asyncio.gather(*(engine.load(ready.server.name, name, folder) for _ in range(2)))
            return len((await engine.observe()).adapters())

        assert ready.run(use) == 1

    def test_a_missing_folder_is_refused(self, ready: TestedEngine) -> None:
        name, folder = ready.adapter("acme")

        async def use(engine: Engine) -> None:
            refused = await refusal_of(engine.load(ready.server.name, name, f"{folder}-gone"))
            self.refusal("missing", refused)
            assert (await engine.observe()).adapters() == {}

        ready.run(use)

    def test_a_rank_above_the_limit_is_refused(self, ready: TestedEngine) -> None:
        name, folder = ready.adapter("acme", rank=32)

        async def use(engine: Engine) -> None:
            self.refusal("rank", await refusal_of(engine.load(ready.server.name, name, folder)))
            assert (await engine.observe()).adapters() == {}

        ready.run(use)

    def test_an_unloaded_adapter_is_gone_and_unloading_again_is_fine(
        self, ready: TestedEngine
    ) -> None:
        name, folder = ready.adapter("acme")

        async def use(engine: Engine) -> None:
            await engine.load(ready.server.name, name, folder)
            await engine.unload(ready.server.name, name)
            await engine.unload(ready.server.name, name)
            assert (await engine.observe()).adapters() == {}
            refused = await refusal_of(engine.complete(ready.server.name, name, PROMPT))
            self.refusal("unknown model", refused)

        ready.run(use)

    def test_an_unknown_model_is_refused(self, ready: TestedEngine) -> None:
        async def use(engine: Engine) -> None:
            asked = engine.complete(ready.server.name, "nobody-test-tiny-v1.0.0", PROMPT)
            self.refusal("unknown model", await refusal_of(asked))

        ready.run(use)

    def test_more_adapters_than_slots_are_served_and_keep_their_answers(
        self, ready: TestedEngine
    ) -> None:
        adapters = [ready.adapter(client) for client in ("acme", "birch", "corvid", "delta", "elm")]

        async def answers(engine: Engine) -> list[str]:
            return [
                (await engine.complete(ready.server.name, name, PROMPT, 12)).text
                for name, _ in adapters
            ]

        async def use(engine: Engine) -> None:
            for name, folder in adapters:
                await engine.load(ready.server.name, name, folder)
            first = await answers(engine)
            assert len(set(first)) == len(adapters)
            assert ready.server.flags is None or len(adapters) > ready.server.flags.max_loras
            assert await answers(engine) == first

        ready.run(use)

    def test_starting_a_running_server_changes_nothing(self, ready: TestedEngine) -> None:
        async def use(engine: Engine) -> None:
            before = (await engine.observe()).boots
            await asyncio.gather(*(engine.start(ready.server) for _ in range(2)))
            assert (await engine.observe()).boots == before

        ready.run(use)

    def test_a_stopped_server_is_absent_and_stopping_again_is_fine(
        self, ready: TestedEngine
    ) -> None:
        async def use(engine: Engine) -> None:
            await engine.stop(ready.server.name)
            await engine.stop(ready.server.name)
            await engine.unload(ready.server.name, "acme-test-tiny-v1.0.0")
            seen = await engine.observe()
            assert (seen.resources, seen.unknown_servers) == ({}, {})

        ready.run(use)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", ready.server.port)) != 0


async def refusal_of(call: Awaitable[Any]) -> EngineRejectedError:
    """Return the refusal of a call; a call that succeeds fails the test."""
    try:
        answer = await call
    except EngineRejectedError as error:
        return error
    raise AssertionError(f"nothing was refused: {answer!r}")


def prepare(bench: TestedEngine) -> None:
    """Start the server of a bench unless the server runs, and unload all adapters."""

    async def use(engine: Engine) -> None:
        await engine.start(bench.server)
        for loaded in (await engine.observe()).adapters().values():
            await engine.unload(loaded.server, loaded.adapter)

    bench.run(use)


def write_version(
    state_dir: Path, client: str, *, rank: int = 4, seed: int | None = None
) -> tuple[str, str]:
    """Write an adapter into the store of a state folder; return its name and its folder."""
    name = str(AdapterName.parse(f"{client}-test-tiny-v1.0.0"))
    scratch = state_dir / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    write_adapter(scratch, rank=rank, seed=client if seed is None else str(seed))
    folder = state_dir / STORE / folder_digest(scratch)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(folder)
    return name, str(folder)


def write_adapter(folder: Path, *, rank: int, seed: str) -> None:
    """Write a LoRA for the attention of every layer of the base, in safetensors."""
    shape = json.loads((BASE / "config.json").read_text(encoding="utf-8"))
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"] * shape["head_dim"]
    sizes = {}
    for layer in range(shape["num_hidden_layers"]):
        stem = f"base_model.model.model.layers.{layer}.self_attn"
        sizes[f"{stem}.q_proj.lora_A.weight"] = (rank, hidden)
        sizes[f"{stem}.q_proj.lora_B.weight"] = (heads, rank)
        sizes[f"{stem}.o_proj.lora_A.weight"] = (rank, heads)
        sizes[f"{stem}.o_proj.lora_B.weight"] = (hidden, rank)
    chance = random.Random(seed)  # noqa: S311 (weights, not secrets)
    header: dict[str, Any] = {}
    body = bytearray()
    for name, (rows, columns) in sizes.items():
        begin = len(body)
        count = rows * columns
        body += struct.pack(f"<{count}f", *(chance.gauss(0, 0.3) for _ in range(count)))
        header[name] = {
            "dtype": "F32",
            "shape": [rows, columns],
            "data_offsets": [begin, len(body)],
        }
    head = json.dumps(header).encode()
    folder.mkdir(parents=True)
    weights = struct.pack("<Q", len(head)) + head + body
    (folder / "adapter_model.safetensors").write_bytes(weights)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj", "q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
