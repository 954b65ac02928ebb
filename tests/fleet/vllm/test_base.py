"""Dimensions of a base, as its config.json gives them."""

from typing import Any

import pytest

from fleet.errors import ConfigError
from fleet.hardware import BaseShape
from fleet.vllm import base_shape
from fleet.vllm.base import computed_bytes, count

SHAPE = BaseShape("LlamaForCausalLM", 8, 16, 2, 4, 2, 2, 99, 512, 1000)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 512,
}


def test_a_shape_is_read_from_a_config() -> None:
    assert base_shape(CONFIG, 1000) == SHAPE
    assert base_shape({**CONFIG, "head_dim": 7}, 0).head_dim == 7
    without = {key: value for key, value in CONFIG.items() if key != "num_key_value_heads"}
    assert base_shape(without, 0).num_key_value_heads == 4


def test_a_multi_modal_config_keeps_the_text_models_dimensions_inside() -> None:
    assert base_shape({"hidden_size": 3, "text_config": CONFIG}, 1000) == SHAPE


@pytest.mark.parametrize("value", [None, 0, "8", True, 8.5])
def test_a_config_without_a_dimension_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="hidden_size"):
        base_shape({**CONFIG, "hidden_size": value}, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_attention_heads", None),
        ("num_hidden_layers", 0),
        ("num_key_value_heads", -1),
        ("head_dim", "x"),
        ("vocab_size", 1 << 40),
    ],
)
def test_a_config_with_an_impossible_dimension_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        base_shape({**CONFIG, name: value})


def test_weights_without_files_are_computed() -> None:
    assert base_shape(CONFIG).weight_bytes > 2 * 99 * 8 * 2


LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
QWEN = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip
MIXTRAL = {**LLAMA, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
GPT_OSS = {"hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "head_dim": 64,
           "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201088,
           "num_local_experts": 32, "num_experts_per_tok": 4}  # fmt: skip
DEEPSEEK = {"hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
            "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280,
            "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
            "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "q_lora_rank": 1536,
            "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128}  # fmt: skip
GEMMA = {
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                    "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
                    "head_dim": 256, "vocab_size": 262208},
    "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27},
}  # fmt: skip
QWEN2_05B = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
             "tie_word_embeddings": True}  # fmt: skip
LLAMA_70B = {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
             "num_attention_heads": 64}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "published", "active"),
    [
        pytest.param(LLAMA, 8_030_261_248, 7.50e9, id="Llama-3.1-8B"),
        pytest.param(QWEN2_05B, 494_032_768, 0.494e9, id="Qwen2.5-0.5B, tied"),
        pytest.param(QWEN, 30_532_122_624, 3.04e9, id="Qwen3-30B-A3B"),
        pytest.param(MIXTRAL, 46_702_792_704, 12.75e9, id="Mixtral-8x7B"),
        pytest.param(GPT_OSS, 20_914_757_184, 3.61e9, id="gpt-oss-20b"),
        pytest.param(DEEPSEEK, 671_026_419_200, 36.6e9, id="DeepSeek-V3, without its MTP layer"),
        pytest.param(GEMMA, 4_300_079_472, 3.88e9, id="gemma-3-4b, with its image encoder"),
    ],
)
def test_parameters_are_within_3_percent_of_what_publishers_count(
    config: dict[str, Any], published: int, active: float
) -> None:
    counted = count(config)
    total = counted.linear + counted.experts + counted.plain
    assert total == pytest.approx(published, rel=0.03)
    assert counted.active == pytest.approx(active, rel=0.02)


def test_weights_of_a_base_in_float32_are_twice_those_in_16_bit() -> None:
    assert computed_bytes({**LLAMA, "torch_dtype": "float32"}) == 2 * computed_bytes(LLAMA)
    assert computed_bytes({**LLAMA, "dtype": "bfloat16"}) == computed_bytes(LLAMA)


@pytest.mark.parametrize(
    ("config", "settings", "published"),
    [
        pytest.param(LLAMA_70B, {"quant_method": "awq", "bits": 4, "group_size": 128}, 39.77e9,
                     id="Llama-3-70B AWQ"),
        pytest.param(LLAMA_70B, {"quant_method": "gptq", "bits": 4, "group_size": 128}, 39.77e9,
                     id="Llama-3-70B GPTQ"),
        pytest.param(LLAMA, {"quant_method": "fp8"}, 9.08e9, id="Llama-3.1-8B FP8"),
        pytest.param(LLAMA, {"quant_method": "compressed-tensors", "config_groups": {
                     "group_0": {"weights": {"num_bits": 8}}}}, 9.08e9, id="Llama-3.1-8B W8A8"),
        pytest.param(GPT_OSS, {"quant_method": "mxfp4"}, 13.76e9, id="gpt-oss-20b MXFP4"),
    ],
)  # fmt: skip
def test_quantised_weights_are_within_2_percent_of_the_files_of_publishers(
    config: dict[str, Any], settings: dict[str, Any], published: float
) -> None:
    assert computed_bytes({**config, "quantization_config": settings}) == pytest.approx(
        published, rel=0.02
    )


@pytest.mark.parametrize("settings", [{}, {"quant_method": "aqlm"}, {"quant_method": "awq"},
    {"quant_method": "compressed-tensors", "config_groups": [1]}])  # fmt: skip
def test_weights_quantised_in_an_unknown_way_are_unknown(settings: dict[str, Any]) -> None:
    assert computed_bytes({**LLAMA, "quantization_config": settings}) == 0
