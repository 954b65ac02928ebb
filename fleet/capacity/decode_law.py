"""States the throughput law of a server that decodes for many adapters at once.

The constants are measured (`calibration`), or estimated from data sheets (`estimate_speed`): on the
safe side, so that a fleet sized with them has room to spare, which `fleetctl calibrate` gives back.
Each constant names its source.

Scalar arithmetic: the placement search evaluates the law thousands of times. Units: seconds,
tokens, and "decode-equivalent" tokens, in which a prompt token counts `Speed.prompt_weight`.

Law:
    step(batch, 0) = step_s + request_s * batch
    step(batch, active) = (lora_step_s + lora_request_s * batch) * (1 + spread * (active - 1))

    where `active` is the number of *different adapters with a request in the batch*, not of
    those that are resident. On 44 published points of two models (1 to 300 adapters, H100, vLLM
    V1; Agulló et al. 2025, arXiv:2508.08343) this fits within 2.7 %; with the number of
    residents in its place the error is up to 12 %.
"""

from collections.abc import Iterable
from math import inf, pow  # noqa: A004 (of floats only, so that the type is float)

from fleet.hardware import BaseShape, BaseSpec, Sheet, Speed, is_cpu, sheet_of
from fleet.vllm import kv_bytes_per_token, weight_bytes

MAX_NUM_SEQS = 256
"""Largest batch that vLLM runs unless told otherwise, on cards under 70 GiB (`max_num_seqs`).

On larger cards its default is 1024; the law is seldom calibrated that far, so we stay below.
"""


def step_seconds(speed: Speed, batch: float, active: float) -> float:
    """Return the seconds of a decoding step of `batch` requests.

    `active` is the number of different adapters among them; 0 when all ask the base.
    """
    if active <= 0:
        return speed.step_s + speed.request_s * batch
    step, request = speed.adapted
    return (step + request * batch) * crowding(speed, active)


def crowding(speed: Speed, active: float) -> float:
    """Return the factor by which `active` different adapters stretch a step of a single adapter."""
    return 1 + speed.spread * max(active - 1, 0.0)


def batch_of_step(speed: Speed, active: float, step_s: float) -> float:
    """Return the batch whose step takes `step_s` seconds: the inverse of `step_seconds`.

    Negative where an empty step takes more. Infinite where requests add nothing.
    """
    step, request = speed.adapted if active > 0 else (speed.step_s, speed.request_s)
    spare = step_s / (crowding(speed, active) if active > 0 else 1.0) - step
    if request > 0:
        return spare / request
    return inf if spare > 0 else -inf


def tokens_per_second(speed: Speed, batch: float, active: float) -> float:
    """Return the tokens that a server decodes per second for `batch` requests at a time."""
    return batch / step_seconds(speed, batch, active) if batch > 0 else 0.0


def largest_batch(kv_tokens: float, mean_context: float, max_num_seqs: int = MAX_NUM_SEQS) -> int:
    """Return the number of requests that decode at once before KV cache or engine are full.

    `mean_context` is the number of tokens that a request keeps there on average over its life.
    """
    return max(min(int(kv_tokens // max(mean_context, 1.0)), max_num_seqs), 0)


def prompt_seconds(speed: Speed) -> float:
    """Return the seconds that a token of a prompt adds to a step with a single active adapter.

    `Speed.prompt_weight` compares them with the cheapest decoded token: a token of the largest
    batch.
    """
    return speed.prompt_weight * step_seconds(speed, MAX_NUM_SEQS, 1) / MAX_NUM_SEQS


def step_under_load(speed: Speed, tokens_per_s: float, active: float) -> float:
    """Return the seconds of a step while a server decodes `tokens_per_s` tokens a second.

    The batch settles where it decodes as fast as tokens are asked for; infinite where no batch
    is fast enough.
    """
    step, request = (constant * crowding(speed, active) for constant in speed.adapted)
    spare = 1 - tokens_per_s * request
    return step / spare if spare > 0 else inf


def step_within(speed: Speed, prompt_tokens: float, output_tokens: float, slo_s: float) -> float:
    """Return the seconds that a step may take for an answer to be done within `slo_s` seconds.

    A prompt is computed many tokens at a time, so a prompt takes the seconds of its arithmetic and
    not a step per token: a request waits for the current step, its prompt is read in the next
    step, which yields the first token, and every further token takes a step.

        slo_s = (output_tokens + 1) * step + prompt_tokens * prompt_seconds

    Other requests' prompts are part of `step`: they count as load.

    Returns:
        0 or less where the prompt alone takes longer.
    """
    return (slo_s - prompt_tokens * prompt_seconds(speed)) / (output_tokens + 1)


def capacity(
    speed: Speed, kv_tokens: float, mean_context: float, slo_batch: int, active: float
) -> float:
    """Return the decode-equivalent tokens per second at the best admissible batch.

    The law grows with the batch, so the best is the largest that the KV cache, the engine and
    the promised latency (`slo_batch`, from `step_within`) all admit. 0 where none does.
    """
    batch = min(largest_batch(kv_tokens, mean_context), slo_batch)
    return tokens_per_second(speed, batch, active)


def expected_active(shares: Iterable[float], batch: float) -> float:
    """Return the number of different adapters to be expected in a batch of requests.

    `shares` are those of the adapters in the traffic; they add up to 1 or less.

    Source:
        Independent draws: adapter i is absent from all of them with `(1 - p_i) ** batch`.
    """
    return sum(1 - pow(1 - share, batch) for share in shares)


REACHED_BANDWIDTH = 0.8
"""Part of the peak memory bandwidth that decoding reaches.

10.54 ms for the 16.06 GB of Llama-3.1-8B is 1.52 TB/s (Agulló et al. 2025, an H100 of 64 GB with
about 2 TB/s), of which launching takes a part.
"""

REACHED_FLOPS = 0.4
"""Part of the peak arithmetic that prompts reach; 0.3 to 0.6 is usual for 16 bit matrices."""

LAUNCH_S = 1.0e-3
"""Seconds per step for scheduling, launching and sampling on a GPU with CUDA graphs.

Of the published 10.54 ms, 0.5 ms are left when the weights are read at 0.8 of 2 TB/s.
"""

CPU_LAUNCH_S = 4.0e-3
"""The same on a CPU: a model of 4 tiny layers takes 3 ms per step (vLLM 0.32, two cores)."""

ALL_REDUCE_S = 20e-6
"""Seconds of an all-reduce of a few KiB among the devices of a server, two per layer.

About 10 us with NVLink, 20 to 40 us over PCIe.
"""

MEAN_CONTEXT = 512
"""Assumed tokens of a decoding request in the KV cache."""

LORA_FACTOR = 2.1
"""Factor of LoRA on a step, up to the rank where `RANK_LEVEL` takes over.

vLLM V1 of 2025-05, rank 8, 300 slots: 17.1 -> 35.4 ms (Agulló et al. 2025); 1.5 with the V0
engine (vLLM pull request 11267). From 0.15 on, kernels are specialised by the number of active
adapters and the factor is smaller; no figure is published for dense models, so the larger factor
holds until measured.
"""

RANK_LEVEL, RANK_POWER = 1.10, 1.1747
"""`RANK_LEVEL + rank ** RANK_POWER / 100`: the fit that Agulló et al. publish for ranks 8 to 32.

Above 32 it is extrapolated: 4.1 at rank 128, 7.8 at 256, where vLLM issue 14435 saw 4.
"""

CPU_LORA_FACTOR, CPU_RANK_GROWTH = 3.4, 0.04
"""On a CPU, LoRA goes through a fallback of gathers: 3.4 at rank 16, 2.9 times that at rank 64."""

SPREAD = 0.0125
"""Increase of a step by a further active adapter, as a part of the step.

0.0091 to 0.0094 at 220 and 250 requests (44 points of Agulló et al.), more at small batches:
with `LORA_FACTOR` this covers their fit over ranks 8 to 32 and up to 96 adapters within 3 %.
Smaller with other kernels (S-LoRA: 0.0003), so again on the safe side.
"""

CPU_SPREAD = 0.014
"""1.83 -> 2.01 ms from 1 to 8 active adapters (vLLM 0.32 for CPU)."""


def estimate_speed(
    base: BaseSpec, kind: str, tensor_parallel: int, max_lora_rank: int, sheet: Sheet | None = None
) -> Speed | None:
    """Return the constants of a server without a measurement; None where nothing is known.

    `sheet`: the device's own figures; None: those of its kind. LoRA kernels compute on
    tensors padded to `max_lora_rank`.

    Law:
        A step reads all weights once, and the KV caches of all requests; the products of a token
        with all weights are two operations per parameter. Both parts are added, though a GPU
        overlaps them.
    """
    sheet = sheet or sheet_of(kind)
    if sheet is None or base.shape is None:
        return None
    return _from_sheet(sheet, base, base.shape, tensor_parallel, max_lora_rank, cpu=is_cpu(kind))


def _from_sheet(
    sheet: Sheet, base: BaseSpec, shape: BaseShape, devices: int, rank: int, *, cpu: bool
) -> Speed:
    bandwidth = sheet.bandwidth * REACHED_BANDWIDTH
    launch = CPU_LAUNCH_S if cpu else LAUNCH_S
    if devices > 1:
        launch += 2 * shape.num_hidden_layers * ALL_REDUCE_S
    step = launch + weight_bytes(shape, devices) / bandwidth
    active = base.active_parameters or parameters(shape)
    token = 2 * active / (sheet.flops * REACHED_FLOPS * devices)
    request = MEAN_CONTEXT * kv_bytes_per_token(base, devices) / bandwidth + token
    # The cheapest decoded token is a token of the largest batch; against it a prompt weighs most.
    decoded = step / MAX_NUM_SEQS + request
    return Speed(
        step_s=step,
        request_s=request,
        lora_factor=lora_factor(rank, cpu=cpu),
        spread=CPU_SPREAD if cpu else SPREAD,
        prompt_weight=min(token / decoded, 1.0),
    )


def lora_factor(max_lora_rank: int, *, cpu: bool = False) -> float:
    """Return the estimated factor of LoRA on a step of a server of this rank."""
    if cpu:
        return CPU_LORA_FACTOR * max(1 + CPU_RANK_GROWTH * (max_lora_rank - 16), 1.0)
    return max(LORA_FACTOR, RANK_LEVEL + pow(max_lora_rank, RANK_POWER) / 100)


def parameters(shape: BaseShape) -> int:
    """Return the parameters that a token is multiplied with, embedding left out.

    Of a mixture of experts, those of the experts that a token is sent to. A step reads all of them.
    """
    if shape.active_parameters:
        return shape.active_parameters
    heads = shape.num_attention_heads * shape.head_dim
    key_values = 2 * shape.num_key_value_heads * shape.head_dim
    hidden, inner = shape.hidden_size, shape.intermediate_size
    layer = hidden * (2 * heads + key_values) + 3 * hidden * inner
    return shape.num_hidden_layers * layer + shape.vocab_size * hidden
