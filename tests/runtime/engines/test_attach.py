"""Servers that somebody else runs: seen, loaded onto, never started or stopped."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError
from fleet.hardware import AttachedServerSpec, HostSpec
from fleet.resources import LoadedAdapter, Server, State
from fleetctl.catalogue import entries
from runtime.engines.attach import AttachEngine, attached_port
from runtime.engines.observation import AT_ONCE
from runtime.engines.protocol import Observer
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer
from runtime.state_folder import path_there

DIGEST = "ab" * 32
URL = "http://10.0.0.5:8000"
CONFIG = FakeConfig(
    model="/models/llama", served_model_names=("llama",), enable_lora=True, max_loras=4
)
STORE = Path("/store")
URLS = {"llama_a": "http://10.0.0.5:8000", "llama_b": "https://llama.example"}
PATHS = (("/store", "/mnt/store"), ("/store/fast", "/nvme"))

Use = Callable[[AttachEngine], Coroutine[Any, Any, Any]]


def group(paths: tuple[tuple[str, str], ...] = ()) -> HostSpec:
    attached = tuple(
        AttachedServerSpec(name, url, "llama3", 4, 16, 0.0) for name, url in URLS.items()
    )
    return HostSpec("rack", "attach", attached=attached, paths=paths)


def run(apps: Mapping[str, Starlette], use: Use, host: HostSpec | None = None) -> Any:
    async def body() -> Any:
        engine = AttachEngine(host or group(), STORE, apps)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(body())


def servers(**changes: FakeModelServer) -> dict[str, Starlette]:
    return {name: fake_app(CONFIG, changes.get(name) or FakeModelServer(CONFIG)) for name in URLS}


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/store/ab", "/mnt/store/ab"),
        ("/store/fast/ab", "/nvme/ab"),
        ("/store/faster/ab", "/mnt/store/faster/ab"),
        ("/store", "/mnt/store"),
    ],
)
def test_the_longest_prefix_that_fits_maps_a_path(here: str, there: str) -> None:
    assert path_there(PATHS, here) == there
    assert path_there((), here) == here


@pytest.mark.parametrize("here", ["/other/ab", "/storefront/ab"])
def test_a_path_outside_every_mapping_is_an_error(here: str) -> None:
    with pytest.raises(EngineError, match="none of the mapped paths") as caught:
        path_there(PATHS, here)
    assert caught.value.diagnostics[0].code == "FC4009"


@pytest.mark.parametrize(
    ("url", "port"), [("http://a:8000", 8000), ("http://a", 80), ("https://a/x", 443)]
)
def test_the_port_is_the_one_that_the_url_means(url: str, port: int) -> None:
    assert attached_port(url) == port


def test_servers_that_answer_are_seen_without_a_digest_of_their_flags() -> None:
    state: State = run(servers(), lambda engine: engine.observe())
    assert state.servers() == {
        "llama_a": Server("llama_a", "llama3", "rack", (), 8000, None),
        "llama_b": Server("llama_b", "llama3", "rack", (), 443, None),
    }
    assert state.urls == URLS
    assert state.versions == dict.fromkeys(URLS, "0.32.0+fake")
    assert set(state.boots) == set(URLS)


def test_a_server_that_does_not_answer_is_unknown_and_never_absent() -> None:
    down = FakeModelServer(CONFIG)
    down.faults.down = True
    state: State = run(servers(llama_b=down), lambda engine: engine.observe())
    assert set(state.servers()) == {"llama_a"}
    assert set(state.unknown_servers) == {"llama_b"}
    assert "503" in state.unknown_servers["llama_b"]


def test_closed_metrics_and_version_do_not_hide_a_server() -> None:
    closed = FakeModelServer(CONFIG)
    closed.faults.refuse("metrics")
    closed.faults.refuse("version")
    state: State = run(servers(llama_a=closed), lambda engine: engine.observe())
    assert "llama_a" in state.servers()
    assert "llama_a" not in state.boots
    assert "llama_a" not in state.versions


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (f"/mnt/store/{DIGEST}", DIGEST),
        (f"/mnt/store/{DIGEST}/", DIGEST),
        (f"/mnt/store/{DIGEST}-2", DIGEST),
        (f"/anywhere/{DIGEST}", None),
        (f"/store/{DIGEST}", None),  # the path of this machine, which the server does not see
        (f"/mnt/store/../store/{DIGEST}", None),
        (f"/nvme/{DIGEST}", None),
    ],
)
def test_the_path_of_the_store_as_the_server_sees_it_alone_tells_the_bytes(
    path: str, digest: str | None
) -> None:
    server = FakeModelServer(CONFIG)
    server.listed = {"a-t-llama3-v1.0.0": path}
    state: State = run(servers(llama_a=server), lambda engine: engine.observe(), group(PATHS))
    assert list(state.adapters().values()) == [
        LoadedAdapter("a-t-llama3-v1.0.0", "llama_a", digest)
    ]


def test_an_adapter_is_loaded_from_the_path_that_the_server_sees(tmp_path: Path) -> None:
    there = tmp_path / "there" / DIGEST
    there.mkdir(parents=True)
    (there / "adapter_config.json").write_text(json.dumps({"r": 8}))
    header = json.dumps({"x": {"data_offsets": [0, 0]}}).encode()
    weights = len(header).to_bytes(8, "little") + header
    (there / "adapter_model.safetensors").write_bytes(weights)
    server = FakeModelServer(CONFIG)
    host = group(((str(tmp_path / "here"), str(tmp_path / "there")),))
    source = str(tmp_path / "here" / DIGEST)

    async def use(engine: AttachEngine) -> None:
        await engine.load("llama_a", "a-t-llama3-v1.0.0", source)
        await engine.load("llama_a", "a-t-llama3-v1.0.0", source)

    run(servers(llama_a=server), use, host)
    assert server.listed == {"a-t-llama3-v1.0.0": str(there)}


def test_a_load_whose_answer_is_lost_may_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / DIGEST
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    header = json.dumps({"x": {"data_offsets": [0, 0]}}).encode()
    weights = len(header).to_bytes(8, "little") + header
    (folder / "adapter_model.safetensors").write_bytes(weights)
    server = FakeModelServer(CONFIG)
    server.faults.lose_answer("load")

    async def use(engine: AttachEngine) -> None:
        with pytest.raises(EngineRejectedError):
            await engine.load("llama_a", "a-t-llama3-v1.0.0", str(folder))
        await engine.load("llama_a", "a-t-llama3-v1.0.0", str(folder))

    run(servers(llama_a=server), use)
    assert set(server.listed) == {"a-t-llama3-v1.0.0"}


def test_a_server_that_loads_no_adapters_at_run_time_says_what_to_do() -> None:
    closed = FakeConfig(model="/m", served_model_names=("llama",))
    apps = servers() | {"llama_a": fake_app(closed)}
    with pytest.raises(EngineRejectedError) as caught:
        run(apps, lambda engine: engine.load("llama_a", "a-t-llama3-v1.0.0", "/x"))
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in caught.value.diagnostics[0].hint


def test_a_server_that_takes_a_load_and_does_not_list_it_has_not_loaded_it() -> None:
    async def forgetful(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"data": []}'})

    apps: dict[str, Any] = {**servers(), "llama_a": forgetful}
    with pytest.raises(EngineRejectedError) as caught:
        run(apps, lambda engine: engine.load("llama_a", "a-t-llama3-v1.0.0", "/x"))
    (told,) = caught.value.diagnostics
    assert (told.code, told.detail) == ("FC4006", entries()["FC4006"].example)


def test_starting_and_stopping_are_refused() -> None:
    server = Server("llama_a", "llama3", "rack", (), 8000, None)
    for use in (lambda engine: engine.start(server), lambda engine: engine.stop("llama_a")):
        with pytest.raises(EngineError, match="cannot be st") as caught:
            run(servers(), use)
        assert caught.value.diagnostics[0].code == "FC4010"


def test_a_server_that_is_not_declared_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        run(servers(), lambda engine: engine.unload("llama_z", "a-t-llama3-v1.0.0"))
    assert caught.value.diagnostics[0].code == "FC4014"


def test_a_web_page_is_not_taken_for_a_server() -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"hello": "world"}'})

    apps: dict[str, Any] = {**servers(), "llama_a": page}
    state: State = run(apps, lambda engine: engine.observe())
    assert "unknown document" in state.unknown_servers["llama_a"]


def test_an_observer_has_no_method_that_changes_anything() -> None:
    observer: Observer = AttachEngine(group(), STORE, servers())
    assert {name for name in vars(Observer) if not name.startswith("_")} == {"observe", "close"}
    state: State = asyncio.run(observer.observe())
    assert set(state.servers()) == set(URLS)


def test_an_unreachable_server_is_no_error_of_the_whole_look() -> None:
    host = HostSpec(
        "rack", "attach", attached=(AttachedServerSpec("x", "http://127.0.0.1:9", "b", 1, 8, 0),)
    )
    state: State = run({}, lambda engine: engine.observe(), host)
    assert "cannot be reached" in state.unknown_servers["x"]
    with pytest.raises(EngineUnreachableError):
        run({}, lambda engine: engine.complete("x", "m", "hello"), host)


def test_a_look_for_one_server_asks_no_other() -> None:
    async def refuse(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it is asked")

    apps = {**servers(), "llama_b": refuse}
    state: State = run(apps, lambda engine: engine.observe("llama_a"))  # type: ignore[arg-type]
    assert sorted(state.servers()) == ["llama_a"]
    assert not state.unknown_servers


def test_over_all_hosts_no_more_servers_are_asked_at_once_than_this_process_can_wait_for() -> None:
    count, asked, most = AT_ONCE + 20, set[str](), 0

    def app(name: str) -> Any:
        inner = fake_app(CONFIG, FakeModelServer(CONFIG))

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal most
            if scope["path"] == "/v1/models":
                asked.add(name)
                most = max(most, len(asked))
                for _ in range(count):  # so that all who may ask do
                    await asyncio.sleep(0)
                asked.discard(name)
            await inner(scope, receive, send)

        return counted

    async def scenario() -> list[State]:
        specs = [AttachedServerSpec(f"s{n}", URL, "tiny", 4, 16, 0) for n in range(count)]
        engines = [
            AttachEngine(HostSpec(s.name, "attach", attached=(s,)), STORE, {s.name: app(s.name)})
            for s in specs
        ]
        try:
            return await asyncio.gather(*(engine.observe() for engine in engines))
        finally:
            await asyncio.gather(*(engine.close() for engine in engines))

    states = asyncio.run(scenario())
    assert [len(state.servers()) for state in states] == [1] * count
    assert most == AT_ONCE
