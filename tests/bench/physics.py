"""Prints our laws beside published figures and beside what reference hardware is said to hold.

    .venv/bin/python -m tests.bench.physics

Takes a second; no GPU, no vLLM. Slot bytes are counted in a real vLLM by
`pytest -m live tests/fleet/physics`.
"""

from operator import attrgetter
from statistics import mean

from fleet.capacity.calibration import fit
from fleet.capacity.decode_law import MAX_NUM_SEQS, estimate_speed, step_seconds, tokens_per_second
from fleet.vllm.lora_slots import GIB
from tests.fleet.capacity.published import SHAPES, series, startups, starvation_runs, usable_bytes
from tests.fleet.capacity.reference import SETTINGS

CONTEXT = 512

law, tensors = attrgetter("law"), attrgetter("tensors")


def memory() -> None:
    """Start-ups: what was taken and what was left, ours beside theirs."""
    print("MEMORY  Agulló et al. 2025, one H100 64 GB, vLLM V1 2025-05\n")
    print("                             weights and slots, GiB          KV cache, GiB")
    print("model           rank  slots  loaded     law   error      left     law   error   starts")
    for each in startups():
        left = usable_bytes(each.model, law) - each.law
        first = _beside(each.loaded_bytes, each.allocated, "%7.3f")
        second = _beside(each.kv_bytes, left, "%7.2f")
        print(
            f"{each.model:14} {each.max_lora_rank:5} {each.max_loras:6} {first}   {second}"
            f"   {'yes' if each.started else 'no'}"
        )
    loaded = [each for each in startups() if each.loaded_bytes]
    cached = [each for each in startups() if each.kv_bytes]
    print(f"\n{len(startups())} start-ups, {sum(each.started for each in startups())} started\n")
    print("at most off                       with the allocator   the tensors alone")
    for what, found in (
        ("weights and slots (56 printed)", [
            max(abs(by(each) / (each.loaded_bytes or 1) - 1) for each in loaded)
            for by in (attrgetter("allocated"), tensors)
        ]),
        ("KV cache that is left (73)", [
            max(abs((usable_bytes(each.model, by) - by(each)) / (each.kv_bytes or 1) - 1)
                for each in cached)
            for by in (law, tensors)
        ]),
        ("sum of weights, slots and cache", [
            max(abs((by(each) + (each.kv_bytes or 0)) / usable_bytes(each.model, by) - 1)
                for each in cached)
            for by in (law, tensors)
        ]),
    ):  # fmt: skip
        print(f"{what:32} {100 * found[0]:18.2f} % {100 * found[1]:17.2f} %")
    print()


def _beside(told: float | None, ours: float, form: str) -> str:
    """A published figure, ours and the error, in GiB; blanks for what was not printed."""
    if told is None:
        return f"{'':7} {form % (ours / GIB)} {'':8}"
    return f"{form % (told / GIB)} {form % (ours / GIB)} {100 * (ours / told - 1):+6.2f} %"


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
        speed = estimate_speed(each.base, each.device.kind, 1, 16)
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
