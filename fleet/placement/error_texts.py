"""The errors of fleets that do not fit, by the limit that is to blame."""

from dataclasses import dataclass

from fleet.placement.causes import Limit


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Text of an error; `unplaced` has the words in braces."""

    limits: tuple[Limit, ...]
    code: str
    summary: str
    detail: str
    hint: str


ERRORS = (
    ErrorText(
        (Limit.SLOTS,),
        "FC2001",
        "Fleet does not fit: no free LoRA slot",
        "{names} of base `{base}` {find} no server with a free slot. {sentence}",
        "{raise_slots}declare another device for `{base}`, lower replicas, or retire versions.",
    ),
    ErrorText(
        (Limit.TENSOR_PARALLEL, Limit.KV_CACHE, Limit.MEMORY),
        "FC2002",
        "Base fits on no device",
        "No server of base `{base}` can be opened for {names}. {sentence}",
        "declare a larger device or a smaller `kv_cache` or `max_model_len`; bases share a device "
        "only where each declares its `kv_cache`, or `placement.share_devices` is on.",
    ),
    ErrorText(
        (Limit.HOSTS, Limit.REPLICAS),
        "FC2003",
        "Not enough devices for the replicas",
        "{names}: {text}.",
        "declare {lack} more, or lower its replicas.",
    ),
    ErrorText(
        (Limit.PIN,),
        "FC2004",
        "Adapter does not fit where it is pinned",
        "{names} would fit elsewhere: {text}, where it does not.",
        "pin it elsewhere, remove the pin, or give that place more room.",
    ),
    ErrorText(
        (Limit.RANK,),
        "FC2005",
        "Adapter rank above the limit",
        "{names} has rank {need}: {text}. vLLM refuses an adapter above that.",
        "raise `max_lora_rank` of base `{base}`, which restarts its servers, or train a smaller "
        "adapter.",
    ),
    ErrorText(
        (Limit.THROUGHPUT,),
        "FC2006",
        "Fleet does not fit: no throughput left",
        "{names} of base `{base}` finds no server that carries its load. {sentence} At most "
        "{utilization} of a server's throughput may be asked in any hour.",
        "declare another device for `{base}`, move batch windows out of that hour, or raise "
        "`placement.utilization`.",
    ),
    ErrorText(
        (Limit.DEVICES,),
        "FC2007",
        "Fleet does not fit: no free device",
        "{names} of base `{base}`: every device that would do is in use. {sentence}",
        "declare another device.",
    ),
    ErrorText(
        (
            Limit.RESERVED,
            Limit.CORDONED,
            Limit.DRAINING,
            Limit.ISOLATION,
            Limit.APART,
            Limit.AVOID,
        ),
        "FC2008",
        "A rule leaves an adapter no place",
        "{names} would fit but for a rule ({rule}): {text}.",
        "loosen the rule, or declare a device that it does not concern.",
    ),
    ErrorText(
        (Limit.HOST_MEMORY,),
        "FC2009",
        "Fleet does not fit: no main memory left on a host",
        "{names} of base `{base}` cannot be listed. {sentence} A server keeps up to "
        "`max_cpu_loras` adapters in its host's memory, once for each device, and what an apply "
        "replaces is there until it has stopped.",
        "declare more `memory` on the host if it has it, another host, or a smaller `max_loras` on "
        "base `{base}`; or let what goes go first, with a plan of its own.",
    ),
    ErrorText(
        (Limit.LATENCY,),
        "FC2010",
        "No device keeps a promised latency",
        "{names} of base `{base}` would be late everywhere. {sentence}",
        "promise more time (`slo` of the tier), ask for fewer tokens, or declare a faster device.",
    ),
)
FEW_SLOTS = ErrorText(
    (),
    "FC2007",
    "Fleet does not fit: no free device",
    "{names} of base `{base}`: every device that would do is in use. {sentence} Base `{other}` "
    "takes {servers} devices, because with `max_loras: {slots}` a server holds only {slots} of its "
    "{versions} versions.",
    "raise `max_loras` of base `{other}`, which restarts its servers, or declare another device.",
)
