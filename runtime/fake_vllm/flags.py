"""The command line of the fake server: the flags of vLLM; other flags are refused."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fleet.vllm import FLAG_KINDS

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM allows."""

_IGNORED: Mapping[str, Mapping[str, Any]] = {
    "bare": {"action": "store_true"},
    "switch": {"action": argparse.BooleanOptionalAction},
    "numbers": {"nargs": "+"},
    "texts": {"nargs": "+"},
}
"""How flags without an effect are read, by kind; other kinds have a single value."""
_NUMBERS = ("port", "max-loras", "max-cpu-loras", "max-model-len", "max-num-seqs",
            "shutdown-timeout", "ssl-cert-reqs")  # fmt: skip


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
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_ca_certs: str | None = None
    """Authorities of clients' certificates."""
    ssl_cert_reqs: int = 0
    """2: a client without a certificate is refused."""
    chat_template: str | None = None
    """None: that of the base's tokenizer."""
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
        prog="runtime.fake_vllm.server",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        conflict_handler="resolve",  # flags with an effect take the place of the ignored
    )
    for name, kind in FLAG_KINDS.items():
        parser.add_argument(f"--{name}", **_IGNORED.get(kind, {}))
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", dest="served_model_names", nargs="+")
    parser.add_argument("--host")
    parser.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-lora-rank", type=int, choices=MAX_LORA_RANKS)
    for name in _NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--fingerprint-mode", choices=["full", "hash", "custom", "none"])
    parser.add_argument("--fingerprint-value", dest="fingerprint")
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
