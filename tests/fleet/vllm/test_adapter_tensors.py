"""Tensors that are not those of an adapter for this base."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import LibraryError
from runtime.library.inspect import inspect
from tests.runtime.library.synthetic import (
    BASE,
    MODULES,
    Tensors,
    codes,
    config,
    safetensors,
    tensor_name,
    tensors,
    write,
)

SMALLER = replace(BASE, hidden_size=16, intermediate_size=24, num_attention_heads=2)
LARGER = replace(BASE, hidden_size=64, intermediate_size=96, num_attention_heads=8)
A, B = tensor_name(0, "q_proj", "A"), tensor_name(0, "q_proj", "B")


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {name.replace(old, new): each for name, each in content.items()}


def with_tensor(name: str, shape: tuple[int, ...]) -> Callable[[Tensors], Tensors]:
    return lambda content: {**content, name: np.ones(shape)}


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {name: each for name, each in content.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: {}, "FC3120"),
        (renamed("base_model.model.model.", "model."), "FC3121"),
        (renamed("base_model.model.model.", "base_model.model.wrong."), "FC3121"),
        (renamed("lora_A.weight", "lora_A.default.weight"), "FC3121"),
        (renamed("q_proj", "foo_proj"), "FC3121"),
        (renamed("self_attn.q_proj", "mlp.q_proj"), "FC3121"),
        (renamed("layers.2.", "layers.02."), "FC3121"),
        (renamed("layers.2.", f"layers.{'9' * 5000}."), "FC3121"),
        (with_tensor("base_model.model.model.embed_tokens.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.lm_head.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.lm_head.base_layer.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.model.embed_tokens.lora_embedding_A", (4, 64)), "FC3121"),
        (with_tensor("base_model.model.score.weight", (2, 32)), "FC3121"),
        (with_tensor(A.replace("lora_A.weight", "lora_A.bias"), (4,)), "FC3121"),
        (with_tensor(A.replace("lora_A.weight", "lora_magnitude_vector"), (32,)), "FC3121"),
        (renamed("layers.2.", "layers.3."), "FC3122"),
        (renamed("layers.2.", "layers.3."), "FC3129"),
        (without(B), "FC3123"),
        (without(A), "FC3123"),
        (lambda all_: {n: v for n, v in all_.items() if ".lora_A." in n}, "FC3123"),
        (with_tensor(A, (4, 32, 1)), "FC3127"),
        (with_tensor(A, (5, 32)), "FC3127"),
        (with_tensor(A, (4, 31)), "FC3128"),
        (with_tensor(B, (33, 4)), "FC3128"),
        (without(A, B), "FC3129"),
    ],
)
def test_tensors_that_are_not_those_of_an_adapter_for_this_base(
    tmp_path: Path, change: Callable[[Tensors], Tensors], code: str
) -> None:
    assert code in codes(write(tmp_path / "a", config(), safetensors(change(tensors()))))


@pytest.mark.parametrize("other", [SMALLER, LARGER])
def test_an_adapter_for_a_smaller_or_larger_base(tmp_path: Path, other: Any) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(base=other)))
    assert "FC3128" in codes(folder)


def test_an_adapter_of_more_layers_than_the_base(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(layers=range(5))))
    assert codes(folder) == {"FC3122"}


@pytest.mark.parametrize("layers", [[0], [0, 2], [2]])
def test_an_adapter_of_some_layers_only(tmp_path: Path, layers: list[int]) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(layers=layers)))
    assert codes(folder) == {"FC3129"}


def test_layers_missing_from_those_that_the_configuration_chooses(tmp_path: Path) -> None:
    chosen = config(layers_to_transform=[0, 1])
    folder = write(tmp_path / "a", chosen, safetensors(tensors(layers=[0])))
    assert codes(folder) == {"FC3129"}


@pytest.mark.parametrize(("layer", "refused"), [(1, False), (0, True)])
def test_one_chosen_layer_is_a_number(tmp_path: Path, layer: int, *, refused: bool) -> None:
    chosen = config(layers_to_transform=1)
    folder = write(tmp_path / "a", chosen, safetensors(tensors(layers=[layer])))
    if refused:
        assert codes(folder) == {"FC3129"}
    else:
        inspect(folder, BASE, "tiny")


def test_a_declared_module_without_tensors(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(modules=MODULES[1:])))
    assert codes(folder) == {"FC3130"}


@pytest.mark.parametrize(("said", "is_"), [(4, 8), (8, 4)])
def test_tensors_of_another_rank_than_the_configuration(
    tmp_path: Path, said: int, is_: int
) -> None:
    folder = write(tmp_path / "a", config(said), safetensors(tensors(is_)))
    assert codes(folder) == {"FC3131"}


def test_a_rank_pattern_that_the_tensors_do_not_have(tmp_path: Path) -> None:
    patterned = config(rank_pattern={"q_proj": 8})
    assert codes(write(tmp_path / "a", patterned, safetensors(tensors()))) == {"FC3131"}


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [A, tensor_name(2, "down_proj", "B")])
def test_a_value_that_is_no_number(tmp_path: Path, dtype: str, value: float, name: str) -> None:
    content = tensors()
    content[name][-1, -1] = value
    assert codes(write(tmp_path / "a", config(), safetensors(content, dtype))) == {"FC3132"}


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_the_largest_numbers_of_each_type_are_numbers(tmp_path: Path, dtype: str) -> None:
    content = tensors()
    content[A][0, :2] = [65504.0, -65504.0] if dtype == "F16" else [3e38, -3e38]
    inspect(write(tmp_path / "a", config(), safetensors(content, dtype)), BASE, "tiny")


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    broken = config(peft_type="IA3", use_dora=True, bias="all")
    folder = write(tmp_path / "a", broken, safetensors(renamed("q_proj", "foo_proj")(tensors())))
    assert {"FC3101", "FC3105", "FC3107", "FC3121", "FC3130"} <= codes(folder)


def test_a_wrong_base_does_not_bury_the_reader(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(base=LARGER)))
    with pytest.raises(LibraryError) as caught:
        inspect(folder, BASE, "tiny")
    assert len(caught.value.diagnostics) <= 9
    assert caught.value.diagnostics[-1].detail == "And 13 more of this kind."
