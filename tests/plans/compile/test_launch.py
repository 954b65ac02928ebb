"""Command lines of servers, for people and supervisors."""

import json
import shlex
from dataclasses import replace

import pytest

from fleet.errors import ConfigError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.hosts import server_unit, unit_text
from fleet.names import Stamps
from fleet.resources import Server, ServerFlags
from fleet.vllm.flag_rules import RESERVED
from fleet.vllm.known_flags import ALIASES
from fleet.vllm.launch import LaunchCommand, LaunchProgram, command_line, environment, launch_of
from plans.compile.launch import LAUNCH_FORMATS, as_json, as_shell
from runtime.fake_vllm.state import FakeConfig, parse_flags

FLAGS = ServerFlags(
    model="/models/my llama",
    served_name="llama3",
    max_loras=8,
    max_lora_rank=32,
    max_cpu_loras=24,
    dtype="bfloat16",
    max_model_len=4096,
    memory_share=0.9,
)
HOST = HostSpec(
    "rack",
    "local",
    devices=(
        DeviceSpec("cpu0", "cpu", 1, 0, 8000),
        DeviceSpec("gpu0", "h100_80g", 1, 0, 8001),
        DeviceSpec("gpu1", "h100_80g", 1, 0, 8002),
    ),
)


def line(flags: ServerFlags, kind: str = "") -> str:
    program = LaunchProgram("py", "127.0.0.1", 8000, kind)
    return " ".join(command_line(flags, program, Stamps(flags.digest)))


def server(*devices: str, flags: ServerFlags | None = FLAGS) -> Server:
    digest = flags.digest if flags else None
    return Server("llama3-rack-gpu1", "llama3", "rack", devices, 8002, digest, flags)


def made(*devices: str) -> LaunchCommand:
    launch = launch_of(server(*devices), HOST, python="/venv/bin/python")
    assert launch is not None
    return launch


def test_a_server_carries_the_digest_of_its_flags_twice() -> None:
    text = line(FLAGS)
    assert f"--served-model-name llama3 fleetctl-{FLAGS.digest} " in text
    assert f"--fingerprint-mode custom --fingerprint-value fleetctl-{FLAGS.digest} " in text


@pytest.mark.parametrize(
    "part",
    [
        "py -m vllm.entrypoints.openai.api_server --model /models/my llama ",
        "--host 127.0.0.1 --port 8000 ",
        "--enable-lora --max-loras 8 --max-lora-rank 32 --max-cpu-loras 24 ",
        "--shutdown-timeout 20 ",
        "--disable-fastapi-docs",
        "--max-model-len 4096",
        "--gpu-memory-utilization 0.9",
    ],
)
def test_what_is_always_said(part: str) -> None:
    assert part in line(FLAGS)


@pytest.mark.parametrize(
    ("flags", "kind", "says", "says_not"),
    [
        (FLAGS, "", "--dtype bfloat16", "enforce-eager"),
        (FLAGS, "cpu", "--enforce-eager --distributed-executor-backend uni", "tensor"),
        (replace(FLAGS, tensor_parallel=2), "cpu", "--tensor-parallel-size 2", "uni"),
        (replace(FLAGS, kv_cache_bytes=7, memory_share=None), "", "bytes 7", "utilization"),
        (replace(FLAGS, max_model_len=None), "", "--model", "max-model-len"),
        (replace(FLAGS, extra=(("seed", "7"),)), "", "--seed 7", "--seed=7"),
        (replace(FLAGS, extra=(("--enable_chunked_prefill", ""),)), "", "-chunked-prefill", "_"),
        (
            replace(FLAGS, extra=(("distributed-executor-backend", "mp"),)),
            "cpu",
            "--distributed-executor-backend mp",
            "uni",
        ),
        (replace(FLAGS, extra=(("data-parallel-size", "2"),)), "", "--api-server-count 1", "uds"),
    ],
)
def test_what_is_said_when_it_applies(
    flags: ServerFlags, kind: str, says: str, says_not: str
) -> None:
    text = line(flags, kind).replace("api_server ", "").replace("my llama", "x")
    assert says in text
    assert says_not not in text


@pytest.mark.parametrize("name", [*RESERVED, *ALIASES, "--max_loras"])
def test_a_declaration_cannot_set_what_fleetctl_owns(name: str) -> None:
    with pytest.raises(ConfigError, match="may not be declared"):
        line(replace(FLAGS, extra=((name, "1"),)))


def test_the_fake_server_reads_the_same_command_line() -> None:
    program = LaunchProgram("py", "127.0.0.1", 8000, "cpu")
    arguments = command_line(FLAGS, program, Stamps(FLAGS.digest))[3:]
    config = parse_flags(arguments, runtime_updates=True)
    stamp = f"fleetctl-{FLAGS.digest}"
    assert config == FakeConfig(
        model="/models/my llama",
        served_model_names=("llama3", stamp),
        enable_lora=True,
        max_loras=8,
        max_lora_rank=32,
        max_cpu_loras=24,
        max_model_len=4096,
        fingerprint=stamp,
        shutdown_timeout=20,
    )


@pytest.mark.parametrize(
    ("devices", "visible"), [(("gpu1",), "1"), (("gpu0", "gpu1"), "0,1"), (("cpu0",), None)]
)
def test_a_server_sees_its_own_gpus_only(devices: tuple[str, ...], visible: str | None) -> None:
    launch = made(*devices)
    assert launch.environment.get("CUDA_VISIBLE_DEVICES") == visible
    assert ("--enforce-eager" in launch.arguments) is (visible is None)


def test_an_attached_server_is_started_by_somebody_else() -> None:
    assert launch_of(server("gpu1"), replace(HOST, engine="attach"), python="p") is None
    assert launch_of(server("gpu1", flags=None), HOST, python="p") is None


def test_the_environment_allows_loading_and_forbids_the_network() -> None:
    assert environment() == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": "",
    }
    assert environment("cpu")["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_a_server_with_the_plug_in_is_stamped_and_has_the_same_digest() -> None:
    plain = made("gpu1")
    launch = launch_of(server("gpu1"), HOST, python="/venv/bin/python", adapters="/s/adapters.json")
    assert launch is not None
    plugged = {"VLLM_PLUGINS": "fleetctl_resolver", "FLEETCTL_ADAPTERS": "/s/adapters.json"}
    assert launch.environment == {**plain.environment, **plugged}
    added = [word for word in launch.arguments if word not in plain.arguments]
    assert added == ["fleetctl-resolver"]
    names = launch.arguments.index("--served-model-name")
    served = launch.arguments[names + 1 : launch.arguments.index("--host")]
    assert served == ("llama3", f"fleetctl-{FLAGS.digest}", f"fleetctl-launch-{launch.launch}",
                      "fleetctl-resolver")  # fmt: skip
    texts = [form([launch]) for form in LAUNCH_FORMATS.values()]
    for text in (*texts, unit_text(server_unit(launch, "/fleet"))):
        assert "fleetctl_resolver" in text
        assert "/s/adapters.json" in text


def test_json_holds_argument_vectors() -> None:
    (document,) = json.loads(as_json([made("gpu1")]))
    assert document["server"] == "llama3-rack-gpu1"
    assert document["digest"] == FLAGS.digest
    assert document["arguments"] == list(made("gpu1").arguments)
    assert document["environment"]["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_shell_script_says_the_same_words() -> None:
    script = as_shell([made("gpu1")])
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    arguments = list(made("gpu1").arguments)
    begin = words.index("/venv/bin/python")
    assert words[begin : begin + len(arguments)] == arguments
    assert "CUDA_VISIBLE_DEVICES=1" in words
    assert words[:3] == ["env", "-u", "VLLM_SERVER_DEV_MODE"]


@pytest.mark.parametrize("form", sorted(LAUNCH_FORMATS))
def test_no_server_is_no_error(form: str) -> None:
    assert isinstance(LAUNCH_FORMATS[form]([]), str)
