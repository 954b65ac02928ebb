"""The fake server as a process: vLLM's command line, and how it ends."""

import asyncio
import signal
import subprocess
import sys
from typing import Any

import pytest

from fleet.errors import EngineRejectedError, EngineUnreachableError
from runtime.fake_vllm.state import FakeConfig, parse_flags
from runtime.json_client import JsonClient
from tests.ports import free_port


def test_vllms_flags_are_read_as_vllm_reads_them() -> None:
    line = (
        "--model /m --served-model-name tiny x --enable-lora --max-loras 4 --max-lora-rank 32 "
        "--max-cpu-loras 9 --fingerprint-mode custom --fingerprint-value x --port 1 "
        "--enforce-eager --dtype bfloat16 --shutdown-timeout 20"
    )
    config = parse_flags(line.split(), runtime_updates=True)
    assert config == FakeConfig(
        model="/m",
        served_model_names=("tiny", "x"),
        port=1,
        enable_lora=True,
        max_loras=4,
        max_lora_rank=32,
        max_cpu_loras=9,
        fingerprint="x",
        shutdown_timeout=20,
    )


@pytest.mark.parametrize(
    "line",
    [
        "--model /m --max-lorass 4",
        "--model /m --max-lora 4",
        "--model /m --max-lora-rank 24",
        "--model /m --max-loras 4 --max-cpu-loras 2",
        "--model /m --fingerprint-value x",
        "--max-loras 4",
    ],
)
def test_a_wrong_command_line_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(line.split(), runtime_updates=True)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_sigterm_lets_a_request_finish_while_new_ones_get_500() -> None:
    port = free_port()
    line = f"--model /m --port {port} --shutdown-timeout 20 --max-model-len 2048"
    command = [sys.executable, "-m", "runtime.fake_vllm.server", *line.split()]
    body = {"prompt": "hello", "max_tokens": 1000, "ignore_eos": True}
    with subprocess.Popen(command) as process:

        async def use() -> Any:
            async with JsonClient(f"http://127.0.0.1:{port}", timeout_s=60) as http:
                await _until_up(http)
                running = asyncio.create_task(http.post("/v1/completions", body))
                while "num_requests_running" not in (text := await http.get_text("/metrics")) or (
                    'running{engine="0",model_name="/m"} 1.0' not in text
                ):
                    assert not running.done()
                process.send_signal(signal.SIGTERM)
                statuses = set()
                while not running.done() and 500 not in statuses:
                    try:
                        await http.post("/v1/completions", body | {"max_tokens": 1})
                    except EngineRejectedError as error:
                        statuses.add(error.status)
                assert await http.get_text("/health") == ""
                assert statuses == {500}
                return await running

        answer = asyncio.run(use())
        assert answer["usage"]["completion_tokens"] == 1000
        assert process.wait(timeout=60) == 0


async def _until_up(http: JsonClient) -> None:
    while True:
        try:
            await http.get_text("/health", attempts=1)
        except EngineUnreachableError:
            await asyncio.sleep(0)
        else:
            return
