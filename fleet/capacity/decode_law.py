"""States the throughput law of a server that decodes for many adapters at once.

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

from fleet.hardware import Speed

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
