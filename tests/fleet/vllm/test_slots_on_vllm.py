"""Slot bytes against the LoRA layers of a real vLLM, class by class."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.hardware import BaseShape
from fleet.vllm.lora_slots import slot_bytes

SLOTS, RANK = 3, 16
CLASSES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Phi3ForCausalLM": "phi3",
}


def shape(architecture: str) -> BaseShape:
    return BaseShape(architecture, 64, 160, 2, 4, 2, 16, 512, 128, 0)


def configuration(architecture: str, model_type: str) -> dict[str, Any]:
    """A config.json of the smallest model that the class accepts."""
    one = shape(architecture)
    found = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": one.hidden_size,
        "intermediate_size": one.intermediate_size,
        "num_hidden_layers": one.num_hidden_layers,
        "num_attention_heads": one.num_attention_heads,
        "num_key_value_heads": one.num_key_value_heads,
        "head_dim": one.head_dim,
        "vocab_size": one.vocab_size,
        "max_position_embeddings": one.max_position_embeddings,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": "gemma" in model_type,
    }
    if "gemma" in model_type:
        found |= {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16}
        found |= {"sliding_window": 64}
    if model_type == "phi3":
        found |= {"pad_token_id": 0, "original_max_position_embeddings": 128}
    return found


@pytest.mark.live
@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(("LlamaForCausalLM", "Phi3ForCausalLM"), marks=pytest.mark.long, id="two"),
        pytest.param(tuple(CLASSES), marks=pytest.mark.proof, id="eight"),
    ],
)
def test_model_classes_hold_exactly_the_bytes_of_the_formula(
    classes: tuple[str, ...], vllm_python: Path
) -> None:
    cases = [
        {"config": configuration(name, CLASSES[name]), "slots": SLOTS, "rank": RANK}
        for name in classes
    ]
    done = subprocess.run(
        [vllm_python, Path(__file__).with_name("count_slots.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "VLLM_CPU_CI_ENV": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_PLUGINS": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": "",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counted = dict(zip(classes, json.loads(done.stdout.splitlines()[-1]), strict=True))
    formula = {name: SLOTS * (slot_bytes(shape(name), RANK) or 0) for name in classes}
    assert formula == counted


@pytest.mark.parametrize(
    ("architecture", "counted"),
    [
        ("LlamaForCausalLM", 325_632),
        ("MistralForCausalLM", 215_040),
        ("Qwen2ForCausalLM", 215_040),
        ("Qwen3ForCausalLM", 325_632),
        ("GemmaForCausalLM", 215_040),
        ("Gemma2ForCausalLM", 215_040),
        ("Gemma3ForCausalLM", 215_040),
        ("Phi3ForCausalLM", 288_768),
    ],
)
def test_eight_classes_hold_what_was_counted_in_vllm_0_32(architecture: str, counted: int) -> None:
    assert SLOTS * (slot_bytes(shape(architecture), RANK) or 0) == counted
