"""Counts the bytes of LoRA slots in a real vLLM; runs in its interpreter, not in ours.

Reads from stdin a list of `{"config": {…}, "slots": n, "rank": r}`, writes the bytes of all
stacked LoRA tensors and the tokens of 8 MiB of KV cache of each, as JSON on the last line.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from vllm import LLM
from vllm.distributed import cleanup_dist_env_and_memory


def stacked_bytes(model: Any) -> int:
    """Add up the memory of every tensor that a LoRA layer holds slots in, experts with it."""
    found = {}
    for module in model.modules():
        for name in [name for name in vars(module) if "stacked" in name]:
            held = getattr(module, name)
            for tensor in held if isinstance(held, list | tuple) else (held,):
                if isinstance(tensor, torch.Tensor):
                    memory = tensor.untyped_storage()
                    found[memory.data_ptr()] = memory.nbytes()
    return sum(found.values())


def count(case: dict[str, Any]) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(case["config"]), encoding="utf-8")
        engine = LLM(
            model=folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            enforce_eager=True,
            enable_lora=True,
            max_loras=case["slots"],
            max_lora_rank=case["rank"],
            max_model_len=1024,
            max_num_batched_tokens=64,  # small: a start warms up for the largest batch
            max_num_seqs=1,
            kv_cache_memory_bytes=8 << 20,
            dtype="bfloat16",
        )
        bytes_held: int = engine.apply_model(stacked_bytes)[0]
        tokens: int = engine.llm_engine.vllm_config.cache_config.kv_cache_size_tokens
        del engine
        cleanup_dist_env_and_memory()
        return bytes_held, tokens


sys.stdout.write(json.dumps([count(each) for each in json.load(sys.stdin)]))
