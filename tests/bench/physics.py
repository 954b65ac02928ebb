"""Prints our laws beside published figures and beside what reference hardware is said to hold.

    .venv/bin/python -m tests.bench.physics

Takes a second; no GPU, no vLLM. Slot bytes are counted in a real vLLM by
`pytest -m live tests/fleet/physics`.
"""

from statistics import mean

from fleet.budget import GIB
from fleet.throughput import MAX_NUM_SEQS, estimate, fit, step_seconds, tokens_per_second
from tests.fleet.physics.published import SHAPES, series, startups, starvation_runs, usable_bytes
from tests.fleet.physics.reference import SETTINGS

CONTEXT = 512


def memory() -> None:
    """Start-ups: what was taken and what was left, ours beside theirs."""
    print("MEMORY  Agulló et al. 2025, one H100 64 GB, vLLM V1 2025-05\n")
    print("model           rank  slots   loaded GiB    law   error   KV GiB    law   error  starts")
    for each in startups():
        loaded = f"{each.law_loaded / GIB:6.2f}"
        left = usable_bytes(each.model) - each.law_loaded
        first = second = f"{'':>6}  {'':>6}"
        if each.loaded_bytes is not None:
            error = each.law_loaded / each.loaded_bytes - 1
            first = f"{each.loaded_bytes / GIB:6.2f} {loaded} {100 * error:+6.2f} %"
        else:
            first = f"{'':6} {loaded} {'':8}"
        if each.kv_bytes is not None:
            error = left / each.kv_bytes - 1
            second = f"{each.kv_bytes / GIB:6.2f} {left / GIB:6.2f} {100 * error:+6.2f} %"
        else:
            second = f"{'':6} {left / GIB:6.2f} {'':8}"
        print(
            f"{each.model:14} {each.max_lora_rank:5} {each.max_loras:6}       {first}   {second}"
            f"  {'yes' if each.started else 'no'}"
        )
    sums = [
        abs((each.law_loaded + each.kv_bytes) / usable_bytes(each.model) - 1)
        for each in startups()
        if each.kv_bytes is not None
    ]
    print(f"\nSum of weights, slots and KV cache: {100 * max(sums):.2f} % off at most\n")


def throughput() -> None:
    """The law over each series, with active adapters and with residents."""
    print("THROUGHPUT  the same; step time by adapters with traffic, 11 points each\n")
    print("model           batch  output   LoRA step ms   spread   max error   with residents")
    for each in series():
        speed, residual = fit(each.points)
        batch = each.points[0].batch
        print(
            f"{each.model:14} {batch:6.0f} {each.output_tokens:7}"
            f" {1000 * step_seconds(speed, batch, 1):14.2f} {speed.spread:8.5f}"
            f" {100 * residual:9.2f} % {100 * fit(each.residents)[1]:14.1f} %"
        )


def starvation() -> None:
    """Rules that say when adapters wait for slots."""
    runs = starvation_runs()
    slow = [each for each in runs if each.slow]
    print(
        f"\nSTARVATION  {len(runs)} runs that met their demand, {len(slow)} with TTFT p50 > 1 s\n"
    )
    print("rule                          caught   false alarms")
    for name, alarms in (
        ("expected busy > slots", [each.busy > each.max_loras for each in runs]),
        ("expected busy > 0.9 slots", [each.busy > 0.9 * each.max_loras for each in runs]),
        ("adapters > slots", [each.adapters > each.max_loras for each in runs]),
    ):
        caught = sum(alarm for alarm, run in zip(alarms, runs, strict=True) if run.slow)
        false = sum(alarms) - caught
        print(f"{name:28} {caught:3} / {len(slow)}     {false:3} / {len(runs) - len(slow)}")


def reference() -> None:
    """Reference hardware."""
    print(f"\nREFERENCE  rank 16, slots for two canaries, mean context {CONTEXT}\n")
    print(
        "setting                               slots  KV tokens  requests   tokens/s, uncalibrated"
    )
    for each in SETTINGS:
        requests = each.requests(CONTEXT)
        speed = estimate(each.base, each.device.kind, 1, 16)
        assert speed is not None
        batch = min(requests // each.servers, MAX_NUM_SEQS)
        # Servers that share a card divide its time.
        rate = tokens_per_second(speed, batch, each.adapters)
        print(f"{each.what:36} {each.slots:6} {each.kv_tokens:10} {requests:9} {rate:12.0f}")


def main() -> None:
    memory()
    throughput()
    starvation()
    reference()
    residuals = [fit(each.points)[1] for each in series()]
    print(
        f"\nModels: {', '.join(SHAPES)}; mean of the largest errors {100 * mean(residuals):.2f} %"
    )


if __name__ == "__main__":
    main()
