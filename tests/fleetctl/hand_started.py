"""A vLLM that a person started, with adapters under names of their own; the fake, and the real."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fleet.environment import SERVER_KEY
from fleet.vllm import environment
from runtime.engine_conformance import BASE, write_adapter
from runtime.json_client import SERVER_TLS, JsonClient
from runtime.server_tls import TlsToServer
from tests.ports import free_port

FLAGS = ("--served-model-name", "tiny", "--enable-lora", "--max-loras", "6", "--max-lora-rank",
         "16", "--max-cpu-loras", "12", "--max-model-len", "512")  # fmt: skip
REAL = ("--dtype", "bfloat16", "--kv-cache-memory-bytes", str(64 << 20), "--enforce-eager",
        "--distributed-executor-backend", "uni")  # fmt: skip


@contextmanager
def hand_started(
    folder: Path,
    python: Path | None,
    adapters: tuple[str, ...],
    more: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    tls: TlsToServer | None = None,
) -> Iterator[str]:
    """Run a server with these adapters, and give its URL; `python` has vLLM, None: the fake.

    `more`: variables of its environment; a `VLLM_API_KEY` among them is given to vLLM as a flag.
    `tls`: how to reach the server where `flags` make it speak TLS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    module = "vllm.entrypoints.openai.api_server" if python else "runtime.fake_vllm.server"
    given = os.environ | environment("cpu") | dict(more or {})
    key = (more or {}).get(SERVER_KEY, "")
    command = [str(python or sys.executable), "-m", module, "--model", str(BASE), *FLAGS]
    command += ["--port", str(port), *(REAL if python else ()), *flags]
    if python and key:
        command += ["--api-key", given.pop(SERVER_KEY)]
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, env=given, stdout=log, stderr=log)
    try:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        if tls:
            SERVER_TLS[url] = tls
        asyncio.run(_until_ready(url, process))
        asyncio.run(_load(url, folder, adapters, key))
        yield url
    finally:
        process.terminate()
        process.wait()


async def _until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    async with JsonClient(url) as http:
        while True:
            try:
                await http.get_text("/health", timeout_s=2)
            except Exception:  # noqa: BLE001 (whatever a server says that still starts)
                assert process.poll() is None, "its log is in the test's folder"
                await asyncio.sleep(0.05)
            else:
                return


async def _load(url: str, folder: Path, adapters: tuple[str, ...], key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with JsonClient(url, headers=headers, timeout_s=60) as http:
        for name in adapters:
            source = folder / "adapters" / name.encode().hex()
            if not source.exists():
                write_adapter(source, rank=4, seed=name)
            await http.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(source)})


async def listed(url: str) -> dict[str, str]:
    """Return the folders of the adapters of a server, by name."""
    async with JsonClient(url) as http:
        cards = (await http.get("/v1/models"))["data"]
    return {card["id"]: card["root"] for card in cards if card["parent"]}


async def answer(url: str, model: str, key: str = "") -> dict[str, str]:
    """Return a greedy answer: its text and the model that it names."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with JsonClient(url, headers=headers, timeout_s=120) as http:
        messages = [{"role": "user", "content": "I was charged twice for May."}]
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 8}
        found = await http.post("/v1/chat/completions", body)
    return {"model": found["model"], "text": found["choices"][0]["message"]["content"]}
