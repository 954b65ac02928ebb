"""Checks whether a base would really serve an adapter as what the adapter says it is.

vLLM answers 200 to many adapters that it then serves as the base, in part, or with NaN that
leaks into other clients' answers; and a load that it refuses can still evict a good adapter.
So everything is decided here, from the two files' headers, before a server is asked.
"""

from fleet.vllm.adapter_check.config import MAX_RANK, check_config, served_rank
from fleet.vllm.adapter_check.tensors import DTYPES, Tensor, adapted_modules, check_tensors

__all__ = [
    "DTYPES",
    "MAX_RANK",
    "Tensor",
    "adapted_modules",
    "check_config",
    "check_tensors",
    "served_rank",
]
