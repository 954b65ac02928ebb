"""The command line of the fake server: the flags of vLLM; other flags are refused."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM allows."""

_IGNORED_WITH_VALUE = (  # noqa: SIM905 (a word a line would bury them)
    "api-key api-server-count block-size chat-template config cpu-offload-gb data-parallel-size "
    "disable-access-log-for-endpoints distributed-executor-backend dtype generation-config "
    "gpu-memory-utilization kv-cache-dtype kv-cache-memory-bytes load-format "
    "long-prefill-token-threshold lora-dtype max-num-active-seqs max-num-batched-tokens "
    "max-num-queued-reqs max-num-queued-tokens middleware num-gpu-blocks-override "
    "optimization-level performance-mode pipeline-parallel-size prefix-caching-hash-algo "
    "quantization revision root-path scheduling-policy seed tensor-parallel-size tokenizer "
    "watermark"
).split()
_IGNORED_SWITCHES = (  # noqa: SIM905 (a word a line would bury them)
    "async-scheduling disable-uvicorn-access-log enable-chunked-prefill "
    "enable-per-request-metrics enable-prefix-caching enable-prompt-tokens-details "
    "enable-request-id-headers enable-server-load-tracking enforce-eager fully-sharded-loras "
    "specialize-active-lora trust-remote-code"
).split()
_NUMBERS = ("port", "max-loras", "max-cpu-loras", "max-model-len", "max-num-seqs",
            "shutdown-timeout")  # fmt: skip
_IGNORED_LISTS = ("cudagraph-capture-sizes", "lora-target-modules")


@dataclass(frozen=True, slots=True)
class FakeConfig:
    """Settings of a fake server, with vLLM's names and defaults."""

    model: str
    served_model_names: tuple[str, ...] = ()
    """Empty: the model's path is its name, as in vLLM."""
    host: str = "127.0.0.1"
    port: int = 8000
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    max_cpu_loras: int | None = None
    max_model_len: int = 4096
    max_num_seqs: int = 256
    """Upper bound of requests that run at the same time; others wait in order of arrival."""
    fingerprint: str | None = None
    """Value of `--fingerprint-mode custom --fingerprint-value`; None: vLLM's own form."""
    shutdown_timeout: int = 0
    """Seconds that running requests get after SIGTERM; 0 aborts them."""
    runtime_updates: bool = True
    """VLLM_ALLOW_RUNTIME_LORA_UPDATING: without it the two LoRA routes do not exist."""
    adapters_file: str = ""
    """FLEETCTL_ADAPTERS, if VLLM_PLUGINS names the plug-in: the adapters loaded when asked for."""
    token_seconds: float = 0.002
    """Time to generate a token."""

    @property
    def names(self) -> tuple[str, ...]:
        """Served names of the base; answers carry the first name."""
        return self.served_model_names or (self.model,)

    @property
    def cpu_loras(self) -> int:
        """Adapters kept in host memory."""
        return self.max_loras if self.max_cpu_loras is None else self.max_cpu_loras


_FIELDS = {field.name for field in fields(FakeConfig)}


def parse_flags(
    arguments: Sequence[str], *, runtime_updates: bool, adapters_file: str = ""
) -> FakeConfig:
    """Read a vLLM command line; exit with 2 and a message if wrong, as vLLM does."""
    parser = argparse.ArgumentParser(
        prog="runtime.fake_vllm.server", allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", dest="served_model_names", nargs="+")
    parser.add_argument("--host")
    parser.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-lora-rank", type=int, choices=MAX_LORA_RANKS)
    for name in _NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--fingerprint-mode", choices=["full", "hash", "custom", "none"])
    parser.add_argument("--fingerprint-value", dest="fingerprint")
    parser.add_argument("--disable-fastapi-docs", action="store_true")
    for name in _IGNORED_WITH_VALUE:
        parser.add_argument(f"--{name}")
    for name in _IGNORED_LISTS:
        parser.add_argument(f"--{name}", nargs="+")
    for name in _IGNORED_SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    given = vars(parser.parse_args(arguments))
    values = {name: value for name, value in given.items() if name in _FIELDS}
    values["served_model_names"] = tuple(values.get("served_model_names", ()))
    config = FakeConfig(**values, runtime_updates=runtime_updates, adapters_file=adapters_file)
    if config.cpu_loras < config.max_loras:
        parser.error(
            f"max_cpu_loras ({config.cpu_loras}) must be >= max_loras ({config.max_loras})."
        )
    if (given.get("fingerprint_mode") == "custom") != (config.fingerprint is not None):
        parser.error("--fingerprint-value is needed with --fingerprint-mode custom, and only then.")
    return config
