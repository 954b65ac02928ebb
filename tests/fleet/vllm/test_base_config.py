"""Dimensions of a base, as its config.json gives them."""

import pytest

from fleet.errors import ConfigError
from fleet.hardware import BaseShape
from fleet.vllm import base_shape

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
