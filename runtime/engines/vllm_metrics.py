"""A server's own figures, as its `/metrics` shows them."""

import re
from dataclasses import dataclass

from fleet.errors import EngineError
from runtime.json_client import JsonClient

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Gauges:
    """What one look at the metrics showed; None: the server does not say."""

    in_flight: int | None
    """Requests that run or wait right now."""
    finished: int | None
    """Requests answered since it started."""
    kv_tokens: int | None
    """Tokens that its KV cache holds."""
    memory_share: float | None
    max_loras: int | None
    """Known once it has had requests to adapters."""


async def read_gauges(http: JsonClient) -> Gauges:
    """Ask a server for its figures; all None where its metrics are closed to us."""
    try:
        text = await http.get_text("/metrics")
    except EngineError:
        return Gauges(None, None, None, None, None)
    return parse_gauges(text)


def parse_gauges(text: str) -> Gauges:
    """Read Prometheus text; series that are not there, or not numbers, are None."""
    sums: dict[str, float] = {}
    labels: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("vllm:"):
            continue
        series, _, value = line.rpartition(" ")
        name, _, inside = series.partition("{")
        if name in {"vllm:cache_config_info", "vllm:lora_requests_info"}:
            labels |= dict(_LABEL.findall(inside))
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue
    running = sums.get("vllm:num_requests_running")
    waiting = sums.get("vllm:num_requests_waiting")
    finished = sums.get("vllm:request_success_total")
    return Gauges(
        in_flight=None if running is None else int(running + (waiting or 0)),
        finished=None if finished is None else int(finished),
        kv_tokens=_whole(labels.get("kv_cache_size_tokens")),
        memory_share=_number(labels.get("gpu_memory_utilization")),
        max_loras=_whole(labels.get("max_lora")),
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)
