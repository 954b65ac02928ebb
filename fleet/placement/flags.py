"""The flags of managed servers: chosen once, kept as long as they suffice."""

from dataclasses import fields, replace

from fleet.budget import RANKS, SLOTS, USABLE
from fleet.declared import Base
from fleet.placement.bins import Bin
from fleet.resources import Server, ServerFlags


def flags_for(base: Base, slots: int, rank: int) -> ServerFlags:
    """Return the flags that a managed server of `base` starts with."""
    return ServerFlags(
        model=base.model,
        served_name=base.name,
        max_loras=slots,
        max_lora_rank=rank,
        max_cpu_loras=2 * slots,
        dtype=base.dtype,
        max_model_len=base.max_model_len,
        memory_share=USABLE if base.kv_cache_bytes is None else None,
        kv_cache_bytes=base.kv_cache_bytes,
        extra=base.extra,
    )


def unlike(base: Base, flags: ServerFlags | None) -> str:
    """Say which flags of a live server are not as declared; empty when all may stay.

    Slots and rank that the planner chose earlier may stay whatever it would choose today.
    """
    if flags is None:
        return "its flags are unknown"
    wished = flags_for(
        base, base.slots or flags.max_loras, base.max_lora_rank or flags.max_lora_rank
    )
    if flags.max_cpu_loras >= wished.max_loras:
        wished = replace(wished, max_cpu_loras=flags.max_cpu_loras)
    differing = [
        each.name
        for each in fields(ServerFlags)
        if getattr(wished, each.name) != getattr(flags, each.name)
    ]
    return f"declared otherwise: {', '.join(differing)}" if differing else ""


def known_flags(base: Base, server: Server) -> ServerFlags | None:
    """Return a live server's flags: as observed, or found by their digest among our choices."""
    if server.flags is not None or server.digest is None:
        return server.flags
    for slots in (base.slots,) if base.slots else SLOTS:
        for rank in (base.max_lora_rank,) if base.max_lora_rank else RANKS:
            flags = flags_for(base, slots, rank)
            if flags.digest == server.digest:
                return flags
    return None


def server_of(bin_: Bin) -> Server:
    """Return the server that a packed bin stands for: the live one where its flags stay."""
    if bin_.live is not None and (bin_.device is None or bin_.fixed):
        return bin_.live
    flags = flags_for(bin_.base, bin_.slots, bin_.rank)
    devices = (bin_.device.name,) if bin_.device else ()
    return Server(bin_.name, bin_.base.name, bin_.host, devices, bin_.port, flags.digest, flags)
