"""Slot bytes against the LoRA layers of a real vLLM, class by class."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.hardware import BaseShape
from fleet.vllm import base_shape, kv_bytes_per_token, unchecked
from fleet.vllm.lora_slots import slot_bytes

SLOTS, RANK = 3, 16
CACHE = 8 << 20
"""Bytes of the KV cache that `count_slots.py` asks for."""
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
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": "gemma" in model_type,
    }
    if "gemma" in model_type:
        found |= {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16}
        found |= {"sliding_window": 64}
    if model_type == "mistral":
        found |= {"sliding_window": None}  # unsaid, 4,096 tokens
    if model_type == "phi3":
        found |= {"pad_token_id": 0, "original_max_position_embeddings": 128}
    return found


MIXED = {
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "MixtralForCausalLM": "mixtral",
    "GptOssForCausalLM": "gpt_oss",
    "DeepseekV2ForCausalLM": "deepseek_v2",
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 96}
MORE: dict[str, dict[str, Any]] = {
    "Qwen3MoeForCausalLM": {**EXPERTS, "num_experts": 4, "mlp_only_layers": [0]},
    "MixtralForCausalLM": {"num_experts_per_tok": 2, "num_local_experts": 4},
    "GptOssForCausalLM": {
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "DeepseekV2ForCausalLM": {
        **EXPERTS,
        "num_key_value_heads": 4,
        "kv_lora_rank": 512,  # vLLM's kernel for AMX takes no other latent than 512 + 64,
        "q_lora_rank": None,
        "qk_nope_head_dim": 32,  # and features per head in multiples of 32 alone
        "qk_rope_head_dim": 64,
        "v_head_dim": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
    },
}


@pytest.mark.live
@pytest.mark.parametrize(
    "classes",
    [
        pytest.param({"LlamaForCausalLM": "llama", **MIXED}, marks=pytest.mark.long, id="mixed"),
        pytest.param(CLASSES, marks=pytest.mark.proof, id="eight"),
    ],
)
def test_model_classes_hold_exactly_the_bytes_of_the_formula(
    classes: dict[str, str], vllm_python: Path
) -> None:
    configs = {
        name: {**configuration(name, kind), **MORE.get(name, {})} for name, kind in classes.items()
    }
    cases = [{"config": config, "slots": SLOTS, "rank": RANK} for config in configs.values()]
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
    for name, (held, tokens) in counted.items():
        read = base_shape(configs[name])
        slots = slot_bytes(read, RANK)
        assert slots is None if "Deepseek" in name else SLOTS * (slots or 0) == held, name
        most = CACHE / kv_bytes_per_token(read)  # in whole blocks of 16 to 128 tokens
        if configs[name].get("sliding_window"):  # which keeps less than the law says
            assert most < tokens + 128, name
        else:
            assert tokens <= most < tokens + 128, name


@pytest.mark.parametrize(
    ("architecture", "counted"),
    [("Qwen3MoeForCausalLM", 1_513_728), ("MixtralForCausalLM", 1_956_096),
     ("GptOssForCausalLM", 1_698_048)],
)  # fmt: skip
def test_mixtures_of_six_layers_hold_what_was_counted_in_vllm_0_32(
    architecture: str, counted: int
) -> None:
    config = configuration(architecture, MIXED[architecture]) | MORE[architecture]
    read = base_shape({**config, "num_hidden_layers": 6, "mlp_only_layers": []})
    assert SLOTS * (slot_bytes(read, RANK) or 0) == counted


def test_a_wrapper_for_images_has_the_slots_of_its_text_model_unchecked() -> None:
    text, whole = shape("Gemma3ForCausalLM"), shape("Gemma3ForConditionalGeneration")
    assert slot_bytes(whole, RANK) == slot_bytes(text, RANK)
    assert (unchecked(text), "unchecked" in unchecked(whole)) == ("", True)


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
