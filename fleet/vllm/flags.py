"""Chooses the flags of managed servers: chosen once, kept as long as they suffice."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from fleet.flag_formats import FORMATS, Hashed, differing, format_of
from fleet.hardware import BaseSpec
from fleet.resources import Server, ServerFlags
from fleet.vllm.memory import RANKS, SLOTS, USABLE

CPU_LORAS = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Values that the planner chooses for `--max-cpu-loras` where that is more than twice the slots."""


def cpu_loras_for(slots: int, listed: int) -> int:
    """Return `--max-cpu-loras`: twice the slots, or more where more versions are listed."""
    if listed <= 2 * slots:
        return 2 * slots
    return next((rung for rung in CPU_LORAS if rung >= listed), listed)


PARTS = (1, 2, 3)
"""Numbers of servers that one device may be divided among."""


def flags_for(
    base: BaseSpec,
    slots: int,
    rank: int,
    *,
    tensor_parallel: int = 1,
    parts: int = 1,
    listed: int = 0,
) -> ServerFlags:
    """Return the flags that a managed server of `base` starts with.

    Args:
        base: What it serves.
        slots: `--max-loras`.
        rank: `--max-lora-rank`.
        tensor_parallel: Devices that it stands on.
        parts: Servers among which each device is divided.
        listed: Versions that it must be able to list at a time.
    """
    share = USABLE if parts == 1 else round(USABLE / parts, 3)
    return ServerFlags(
        model=base.model,
        served_name=base.name,
        max_loras=slots,
        max_lora_rank=rank,
        max_cpu_loras=cpu_loras_for(slots, listed),
        dtype=base.dtype,
        max_model_len=base.max_model_len,
        tensor_parallel=tensor_parallel,
        memory_share=share if base.kv_cache_bytes is None else None,
        kv_cache_bytes=base.kv_cache_bytes,
        extra=base.extra,
    )


def flag_drift(
    base: BaseSpec,
    flags: ServerFlags | None,
    digest: str | None = None,
    formats: Mapping[int, Hashed] = FORMATS,
) -> str:
    """Say which flags of a live server are not as declared; empty when all may stay.

    What the planner chose earlier may stay whatever it would choose today, and so may what a
    later format of flags would add.

    Args:
        base: As declared.
        flags: Those of the server; None: unknown.
        digest: The digest that the server shows, whose format decides what is compared.
        formats: Those that are known.
    """
    if flags is None:
        return "its flags are unknown"
    wished = flags_for(
        base, base.slots or flags.max_loras, base.max_lora_rank or flags.max_lora_rank,
        tensor_parallel=base.tensor_parallel or flags.tensor_parallel,
    )  # fmt: skip
    if flags.max_cpu_loras >= wished.max_loras:
        wished = replace(wished, max_cpu_loras=flags.max_cpu_loras)
    if None not in (flags.memory_share, wished.memory_share):
        wished = replace(wished, memory_share=flags.memory_share)
    names = differing(asdict(wished), asdict(flags), format_of(digest), formats)
    return f"declared otherwise: {', '.join(names)}" if names else ""


def known_flags(base: BaseSpec, server: Server) -> ServerFlags | None:
    """Return a live server's flags: as observed, or found by their digest among our choices."""
    if server.flags is not None or server.digest is None:
        return server.flags
    known = server.digest
    return next(
        (choice for choice in _choices(base, server) if choice.digest_like(known) == known), None
    )


def _choices(base: BaseSpec, server: Server) -> Iterator[ServerFlags]:
    """Yield what the planner may have started a server with, the likely ones first."""
    cards = max(len(server.devices), 1)
    for listed in (0, *CPU_LORAS):
        for parts in PARTS:
            for slots in (base.slots,) if base.slots else SLOTS:
                for rank in (base.max_lora_rank,) if base.max_lora_rank else RANKS:
                    yield flags_for(
                        base, slots, rank, tensor_parallel=cards, parts=parts, listed=listed
                    )


def parts_of(flags: ServerFlags) -> int:
    """Return the number of servers that share a device, from a server's share."""
    if flags.memory_share is None:
        return 1
    return max(round(USABLE / flags.memory_share), 1)
