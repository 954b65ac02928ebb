"""Reading a server's own figures."""

from runtime.engines.vllm_api import ServerMetrics, parse_metrics

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="deferred"} 2.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny"} 40.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.125
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 900.0
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 300.0
vllm:num_preemptions_total{engine="0",model_name="tiny"} 5.0
vllm:cache_config_info{block_size="128",gpu_memory_utilization="0.92",kv_cache_size_tokens="65536"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a\\"b",waiting_lora_adapters=""} 1.7e9
process_start_time_seconds 1.7e9
"""  # noqa: E501 (as a server writes it)


def test_what_a_server_says_of_itself() -> None:
    assert parse_metrics(METRICS) == ServerMetrics(
        running=4,
        waiting=2,
        finished=42,
        kv_tokens=65536,
        kv_used=0.25,
        prefix_hits=300,
        prefix_lookups=900,
        preemptions=5,
        memory_share=0.92,
        max_loras=4,
        started="1.7e9",
    )
    assert parse_metrics(METRICS).in_flight == 6


def test_what_a_server_does_not_say_is_not_known() -> None:
    nothing = ServerMetrics()
    assert parse_metrics("") == nothing
    assert parse_metrics('vllm:cache_config_info{kv_cache_size_tokens="None"} 1\nvllm:x y\n') == (
        nothing
    )
    assert parse_metrics("vllm:num_requests_running 0").in_flight == 0


def test_a_figure_that_is_no_number_is_not_known() -> None:
    text = "vllm:num_requests_running NaN\nvllm:num_requests_waiting 3.0\n"
    assert parse_metrics(text) == ServerMetrics(waiting=3)
    assert parse_metrics("process_start_time_seconds soon\n").started == ""


def test_the_adapters_in_slots_are_known_where_a_server_says_so() -> None:
    """As vLLM's open change for residency writes them; 0.33 has no such series."""
    text = """\
vllm:lora_adapter_loaded{adapter_name="acme-support-v1",level="gpu",pinned="false",rank="8"} 1.0
vllm:lora_adapter_loaded{adapter_name="acme-support-v1",level="cpu",pinned="false",rank="8"} 1.0
vllm:lora_adapter_loaded{adapter_name="birch-faq-v2",level="cpu",pinned="false",rank="8"} 1.0
vllm:lora_adapter_loaded{adapter_name="gone-v1",level="gpu",pinned="false",rank="8"} 0.0
"""
    assert parse_metrics(text).resident == frozenset({"acme-support-v1"})
    assert parse_metrics(text.splitlines()[2] + "\n").resident == frozenset()
    assert parse_metrics(METRICS).resident is None
