"""Adapters and bases made from nothing, right or wrong in any one way."""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import LibraryError
from fleet.hardware import BaseShape
from fleet.vllm.adapter import module_shapes
from runtime.library.inspect import inspect

BASE = BaseShape(
    architecture="LlamaForCausalLM",
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=64,
    max_position_embeddings=128,
    weight_bytes=1000,
)
MODULES = tuple(sorted(module_shapes(BASE)))
BLOCKS = {"gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
TYPES = {"F16": np.float16, "F32": np.float32}

Tensors = dict[str, "np.ndarray[Any, Any]"]


def tensor_name(layer: int, module: str, side: str) -> str:
    block = BLOCKS.get(module, "self_attn")
    return f"base_model.model.model.layers.{layer}.{block}.{module}.lora_{side}.weight"


def config(rank: int = 4, modules: Iterable[str] = MODULES, **changes: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": list(modules),
        "base_model_name_or_path": "tiny",
        "bias": "none",
        **changes,
    }


def tensors(
    rank: int = 4,
    modules: Iterable[str] = MODULES,
    layers: Iterable[int] = range(BASE.num_hidden_layers),
    base: BaseShape = BASE,
    ranks: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Tensors:
    random = np.random.default_rng(seed)
    shapes = module_shapes(base)
    made: Tensors = {}
    for layer in layers:
        for module in modules:
            d_in, d_out = shapes[module]
            own = (ranks or {}).get(module, rank)
            made[tensor_name(layer, module, "A")] = random.standard_normal((own, d_in))
            made[tensor_name(layer, module, "B")] = random.standard_normal((d_out, own))
    return made


def to_bytes(values: "np.ndarray[Any, Any]", dtype: str) -> bytes:
    if dtype == "BF16":
        upper: bytes = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        return upper
    raw: bytes = values.astype(TYPES[dtype]).tobytes()
    return raw


def safetensors(content: Tensors, dtype: str = "F32") -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in content.items():
        raw = to_bytes(values, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return framed(header, data)


def framed(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write(folder: Path, configuration: Any, weights: bytes | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    if weights is not None:
        (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def adapter(folder: Path, rank: int = 4, seed: int = 0, dtype: str = "F32", **more: Any) -> Path:
    """Write a good adapter; `more` goes into its configuration."""
    return write(folder, config(rank, **more), safetensors(tensors(rank, seed=seed), dtype))


def base(folder: Path, shape: BaseShape = BASE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "architectures": [shape.architecture],
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors({"w": np.zeros((5, 5))}))
    return folder


def codes(folder: Path) -> set[str]:
    """Return the codes of all reasons why an adapter is refused; it must be."""
    with pytest.raises(LibraryError) as caught:
        inspect(folder, BASE, "tiny", "models/base/tiny")
    assert all(each.summary and each.detail for each in caught.value.diagnostics)
    return {each.code for each in caught.value.diagnostics}
