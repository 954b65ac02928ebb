"""Knows vLLM: flags, command lines, memory, LoRA slots, adapters that a server serves as trained.

Layer 2, beside `packing` and `gates`; knows bases and flags, no fleet. Never imports vLLM. Pure.
"""

from fleet.vllm.adapter import (
    DTYPES,
    Tensor,
    adapted_modules,
    check_config,
    check_tensors,
    module_shapes,
    served_rank,
)
from fleet.vllm.base import base_shape, dimensions
from fleet.vllm.flag_rules import FLAG_KINDS, fault_of, path_in, spelling_hint, split_words
from fleet.vllm.flags import (
    SERVERS_PER_DEVICE,
    attached_faults,
    attached_unknowns,
    cpu_loras_for,
    disagreements,
    flag_drift,
    flags_for,
    known_flags,
    servers_per_device_of,
    with_engines,
)
from fleet.vllm.known_flags import RELEASE
from fleet.vllm.launch import (
    FAKE_SUFFIX,
    POD_ADAPTERS,
    POD_PORT,
    POD_STORE,
    RESOLVER,
    CommandRead,
    LaunchCommand,
    LaunchProgram,
    Pod,
    command_line,
    compiled_launch,
    environment,
    gpus_of,
    launch_of,
    read_back,
)
from fleet.vllm.lora_slots import (
    GIB,
    RANKS,
    SLOTS,
    USABLE,
    assumption,
    fully_sharded,
    host_bytes,
    kv_bytes_per_token,
    least_kv_bytes,
    lora_dtype,
    pool_bytes,
    rank_bucket,
    release,
    reserve_bytes,
    slot_bytes,
    slots_bucket,
    unchecked,
    weight_bytes,
)
