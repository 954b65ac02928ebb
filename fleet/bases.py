"""Base models after `resolve`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BaseShape:
    """Dimensions of a base, as in its config.json (Hugging Face field names)."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    weight_bytes: int
    """Sum of the sizes of all tensors in the safetensors files."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base model."""

    name: str
    model: str
    """Path as its servers see it."""
    dtype: str
    max_model_len: int | None
    kv_cache_bytes: int | None
    min_kv_tokens: int
    slots: int | None
    """Declared `max_loras`; None: the planner chooses."""
    max_lora_rank: int | None
    extra: tuple[tuple[str, str], ...]
    shape: BaseShape | None
    """None when neither the library nor the lock holds its config.json."""
    tensor_parallel: int | None = None
    """Devices of each server; None: the fewest that hold it."""
    max_in_flight: int | None = None
    """Requests that a gateway keeps at work on each server."""
    reserves: tuple[tuple[str, int, str, int], ...] = ()
    """Kind of device, devices per server, version of vLLM, and bytes per device that were
    measured to go to what is neither weights nor slots nor KV cache."""

    def reserve(self, kind: str, devices: int, vllm: str = "") -> tuple[int, str] | None:
        """Return the largest reserve that was measured of such servers, and with which vLLM.

        Of the same minor release, where that is known. None: never measured.
        """
        found = (
            (each, measured)
            for *of, measured, each in self.reserves
            if of == [kind, devices] and (not vllm or _minor(vllm) == _minor(measured))
        )
        return max(found, default=None)


def _minor(vllm: str) -> list[str]:
    return vllm.split(".")[:2]
