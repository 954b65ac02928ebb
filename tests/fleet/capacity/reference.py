"""Concurrency of reference hardware by our laws, from the KV cache that is left."""

from dataclasses import dataclass

from fleet.hardware import BaseShape, BaseSpec, DeviceSpec
from fleet.vllm.lora_slots import (
    GIB,
    USABLE,
    kv_bytes_per_token,
    pool_bytes,
    reserve_bytes,
    slots_bucket,
    weight_bytes,
)
from tests.fleet.capacity.published import LLAMA_31_8B, QWEN25_7B

CANARIES = 2
RANK = 16

LLAMA_70B_4BIT = BaseShape(
    "LlamaForCausalLM", 8192, 28672, 80, 64, 8, 128, 128256, 131072, 39_770_000_000
)
"""Llama-3.1-70B in 4 bit; the size is that of the published AWQ files."""
MISTRAL_7B = BaseShape(
    "MistralForCausalLM", 4096, 14336, 32, 32, 8, 128, 32768, 32768, 14_496_047_104
)

RTX_4090 = DeviceSpec("gpu0", "rtx4090_24g", 24 * GIB, 0.5, 8100)
A100 = DeviceSpec("gpu0", "a100_80g", 80 * GIB, 1.8, 8100)


@dataclass(frozen=True, slots=True)
class Setting:
    """Equal servers on a card, with equal numbers of adapters of rank 16."""

    what: str
    device: DeviceSpec
    shape: BaseShape
    servers: int
    adapters: int
    kv_dtype: str = "auto"

    @property
    def base(self) -> BaseSpec:
        extra = () if self.kv_dtype == "auto" else (("kv-cache-dtype", self.kv_dtype),)
        return BaseSpec("base", "/base", "bfloat16", None, None, 0, None, RANK, extra, self.shape)

    @property
    def slots(self) -> int:
        """Slots of a server: its adapters and two canaries, rounded up as the planner does."""
        slots = slots_bucket(self.adapters + CANARIES)
        assert slots is not None
        return slots

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV caches of all servers on the card hold."""
        pool = pool_bytes(self.shape, self.slots, RANK)
        assert pool is not None
        each = weight_bytes(self.shape) + pool + reserve_bytes(self.device)
        left = self.device.memory_bytes * USABLE - self.servers * each
        return int(left // kv_bytes_per_token(self.base))

    def requests(self, context: int) -> int:
        """Return the requests at a time that keep `context` tokens."""
        return self.kv_tokens // context


SETTINGS = (
    Setting("4090: Llama-3.1-8B, 5 adapters", RTX_4090, LLAMA_31_8B, 1, 5),
    Setting("4090: Mistral-7B, 5 adapters", RTX_4090, MISTRAL_7B, 1, 5),
    Setting("4090: Qwen2.5-7B, 5 adapters", RTX_4090, QWEN25_7B, 1, 5),
    Setting("A100 80: 70B 4 bit, 14 adapters", A100, LLAMA_70B_4BIT, 1, 14),
    Setting("A100 80: the same, KV cache fp8", A100, LLAMA_70B_4BIT, 1, 14, "fp8"),
    Setting("A100 80: 2 x Llama-3.1-8B, 6 each", A100, LLAMA_31_8B, 2, 6),
    Setting("A100 80: 3 x Llama-3.1-8B, 5 each", A100, LLAMA_31_8B, 3, 5),
    Setting("A100 80: 3 x Qwen2.5-7B, 5 each", A100, QWEN25_7B, 3, 5),
)
