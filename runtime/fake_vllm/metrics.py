"""The fake server's `/metrics`: the series of vLLM that others read."""

from collections.abc import Iterator

from runtime.fake_vllm.state import FakeModelServer

_REASONS = ("stop", "length", "abort", "error")
_BYTES_PER_TOKEN = 1024


def metrics_text(server: FakeModelServer) -> str:
    """Return Prometheus text; like vLLM's, it knows the base's name only."""
    return "".join(f"{line}\n" for line in _lines(server))


def _lines(server: FakeModelServer) -> Iterator[str]:
    base = f'engine="0",model_name="{server.config.names[0]}"'
    running = sum(server.running.values())
    yield "# TYPE process_start_time_seconds gauge"
    yield f"process_start_time_seconds {server.started!r}"
    yield f"vllm:num_requests_running{{{base}}} {running}.0"
    waiting = {"capacity": sum(not turn.cancelled() for turn in server.waiting), "deferred": 0}
    yield f"vllm:num_requests_waiting{{{base}}} {sum(waiting.values())}.0"
    for reason, count in waiting.items():
        yield f'vllm:num_requests_waiting_by_reason{{{base},reason="{reason}"}} {count}.0'
    yield f"vllm:kv_cache_usage_perc{{{base}}} 0.0"
    yield f"vllm:num_preemptions_total{{{base}}} 0.0"
    yield f"vllm:prompt_tokens_total{{{base}}} {server.counts['prompt tokens']}.0"
    yield f"vllm:generation_tokens_total{{{base}}} {server.counts['generated tokens']}.0"
    for reason in _REASONS:
        count = server.counts[f"finished {reason}"]
        yield f'vllm:request_success_total{{finished_reason="{reason}",{base}}} {count}.0'
    tokens = 64 * 1024 * 1024 // _BYTES_PER_TOKEN
    yield (
        f'vllm:cache_config_info{{block_size="128",cache_dtype="auto",enable_prefix_caching="True",'
        f'engine="0",gpu_memory_utilization="0.92",kv_cache_size_tokens="{tokens}",'
        f'num_gpu_blocks="{tokens // 128}"}} 1.0'
    )
    names = ",".join(sorted(name for name in server.listed if server.running[name]))
    if server.counts["finished stop"] + server.counts["finished length"] + running:
        yield (
            f'vllm:lora_requests_info{{max_lora="{server.config.max_loras}",'
            f'running_lora_adapters="{names}",waiting_lora_adapters="{names}"}} {server.started!r}'
        )
