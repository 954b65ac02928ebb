"""Knows vLLM: flags, command lines, memory, LoRA slots, and which adapters a server really serves.

Layer 2, beside `packing` and `gates`; knows bases and flags, no fleet. Never imports vLLM. Pure.
"""

from fleet.vllm.adapter_check.config import check_config, served_rank
from fleet.vllm.adapter_check.tensors import (
    DTYPES,
    Tensor,
    adapted_modules,
    check_tensors,
    module_shapes,
)
from fleet.vllm.engine_versions import disagreements, with_engines
from fleet.vllm.flags import PARTS, cpu_loras_for, flag_drift, flags_for, known_flags, parts_of
from fleet.vllm.launch import (
    FORBIDDEN_ENVIRONMENT,
    SHUTDOWN_TIMEOUT_S,
    LaunchCommand,
    command_line,
    environment,
    inherited,
    launch_of,
)
from fleet.vllm.lora_slots import assumption, pool_bytes, release, slot_bytes
from fleet.vllm.memory import (
    GIB,
    RANKS,
    SLOTS,
    USABLE,
    fully_sharded,
    host_bytes,
    kv_bytes_per_token,
    least_kv_bytes,
    lora_dtype,
    rank_bucket,
    reserve_bytes,
    slots_bucket,
    weight_bytes,
)
from fleet.vllm.reserved_flags import why_reserved

__all__ = [
    "DTYPES",
    "FORBIDDEN_ENVIRONMENT",
    "GIB",
    "PARTS",
    "RANKS",
    "SHUTDOWN_TIMEOUT_S",
    "SLOTS",
    "USABLE",
    "LaunchCommand",
    "Tensor",
    "adapted_modules",
    "assumption",
    "check_config",
    "check_tensors",
    "command_line",
    "cpu_loras_for",
    "disagreements",
    "environment",
    "flag_drift",
    "flags_for",
    "fully_sharded",
    "host_bytes",
    "inherited",
    "known_flags",
    "kv_bytes_per_token",
    "launch_of",
    "least_kv_bytes",
    "lora_dtype",
    "module_shapes",
    "parts_of",
    "pool_bytes",
    "rank_bucket",
    "release",
    "reserve_bytes",
    "served_rank",
    "slot_bytes",
    "slots_bucket",
    "weight_bytes",
    "why_reserved",
    "with_engines",
]
