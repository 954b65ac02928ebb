"""The parser of vLLM's `/metrics`; a gateway uses the parser too, and so loads no httpx."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

_SERIES = re.compile(
    r"^(process_start_time_seconds|vllm:(?:num_requests_running|num_requests_waiting"
    r"|request_success_total|prompt_tokens_total|generation_tokens_total|cache_config_info"
    r"|kv_cache_usage_perc|num_preemptions_total|prefix_cache_hits_total"
    r"|prefix_cache_queries_total"
    r"|lora_requests_info|lora_adapter_loaded))(?:\{(.*)\})? (\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"[0-9.eE+]+")


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """The figures of a server at a moment; None: the server does not report the figure."""

    running: int | None = None
    """Requests that run right now."""
    waiting: int | None = None
    """Requests that wait right now."""
    finished: int | None = None
    """Requests answered since the server started."""
    kv_tokens: int | None = None
    """Tokens that the KV cache holds."""
    kv_used: float | None = None
    """Part of the KV cache in use, 0 to 1; of several engines the fullest."""
    prefix_hits: int | None = None
    """Tokens of prompts found in the prefix cache since the server started."""
    prefix_lookups: int | None = None
    """Tokens of prompts looked for in the prefix cache since the server started."""
    preemptions: int | None = None
    """Requests put off for lack of KV cache since the server started."""
    memory_share: float | None = None
    """Share of the memory of every device that the server may use."""
    max_loras: int | None = None
    """Slots; known once the server has had requests to adapters."""
    tokens: int | None = None
    """Tokens read and made since the server started."""
    resident: frozenset[str] | None = None
    """Adapters in LoRA slots of the GPU."""
    started: str = ""
    """Start time of the process, as spelled by the server; empty: not reported."""

    @property
    def in_flight(self) -> int | None:
        """Requests that run or wait right now."""
        return None if self.running is None else self.running + (self.waiting or 0)


def parse_metrics(text: str) -> ServerMetrics:
    """Parse Prometheus text; series that are missing, or not numbers, are None."""
    sums: defaultdict[str, float] = defaultdict(float)
    labels: dict[str, str] = {}
    loaded: list[tuple[str, bool]] = []
    started = ""
    for match in _SERIES.finditer(text):
        name, inside, value = match.groups()
        if name in {"vllm:cache_config_info", "vllm:lora_requests_info"}:
            labels |= dict(_LABEL.findall(inside or ""))
        elif name == "vllm:lora_adapter_loaded":
            its = dict(_LABEL.findall(inside or ""))
            in_slot = its.get("level") == "gpu" and (_number(value) or 0) > 0
            loaded.append((its.get("adapter_name", ""), in_slot))
        elif name == "process_start_time_seconds":
            started = started or (value if _NUMBER.fullmatch(value) else "")
        elif (number := _number(value)) is not None:
            is_part = name == "vllm:kv_cache_usage_perc"
            sums[name] = max(sums[name], number) if is_part else sums[name] + number
    return ServerMetrics(
        running=_count(sums, "vllm:num_requests_running"),
        waiting=_count(sums, "vllm:num_requests_waiting"),
        finished=_count(sums, "vllm:request_success_total"),
        tokens=_tokens(sums),
        kv_used=sums.get("vllm:kv_cache_usage_perc"),
        prefix_hits=_count(sums, "vllm:prefix_cache_hits_total"),
        prefix_lookups=_count(sums, "vllm:prefix_cache_queries_total"),
        preemptions=_count(sums, "vllm:num_preemptions_total"),
        kv_tokens=_whole(labels.get("kv_cache_size_tokens")),
        memory_share=_number(labels.get("gpu_memory_utilization")),
        max_loras=_whole(labels.get("max_lora")),
        resident=frozenset(name for name, in_slot in loaded if in_slot) if loaded else None,
        started=started,
    )


def _tokens(sums: dict[str, float]) -> int | None:
    found = [_count(sums, f"vllm:{kind}_tokens_total") for kind in ("prompt", "generation")]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def _count(sums: dict[str, float], name: str) -> int | None:
    return int(sums[name]) if name in sums else None


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)
