"""Reads the config.json of a base."""

from collections.abc import Mapping
from typing import Any

from fleet.codes import diagnostic
from fleet.errors import ConfigError, did_you_mean
from fleet.hardware import BaseShape
from fleet.vllm.base_weights import EXPERTS, computed_bytes, count, number, text_of

_REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
             "intermediate_size")  # fmt: skip
_OPTIONAL = ("num_key_value_heads", "head_dim", "max_position_embeddings")


_MIXED = (
    *EXPERTS,
    *("num_experts_per_tok", "top_k_experts", "moe_intermediate_size", "decoder_sparse_step"),
    *("n_shared_experts", "shared_expert_intermediate_size", "first_k_dense_replace"),
    *("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"),
)
"""Fields of mixtures of experts and of MLA."""


def dimensions(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of a config.json that `base_shape` goes by."""
    text = text_of(config)
    names = (*_REQUIRED, *_OPTIONAL, *_MIXED)
    return {name: found for name in names if (found := number(text, name))}


def base_shape(config: Mapping[str, Any], file_bytes: int = 0) -> BaseShape:
    """Return the dimensions that a base's config.json gives.

    `file_bytes` are of all tensors in the weight files; 0, where there are no files: the weights
    are computed. A multi-modal config.json keeps the text model's dimensions under `text_config`.

    Raises:
        ConfigError: a dimension is missing or no number.

    Source:
        Defaults as in Hugging Face's LlamaConfig: as many key-value heads as heads,
        `head_dim` = hidden size / heads.
    """
    text = text_of(config)
    for name in (*_REQUIRED, *_OPTIONAL):
        value = text.get(name)
        if name in _OPTIONAL and value is None:
            continue
        if type(value) is not int or not 1 <= value <= _MOST:
            near = did_you_mean(name, sorted(map(str, config)))
            detail = f"Its config.json gives no whole number `{name}`"
            detail += "." if value is None else f" from 1 to {_MOST}, but `{str(value)[:40]}`."
            raise ConfigError(diagnostic("FC1219", detail, hint=near))
    heads, hidden = text["num_attention_heads"], text["hidden_size"]
    architectures = config.get("architectures") or text.get("architectures")
    experts, counted = number(text, *EXPERTS), count(config)
    latent = number(text, "kv_lora_rank")
    inner = number(text, "moe_intermediate_size") or text["intermediate_size"]
    return BaseShape(
        **{name: text[name] for name in _REQUIRED},
        architecture=str(architectures[0]) if architectures else str(text.get("model_type", "")),
        num_key_value_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or max(hidden // heads, 1),
        max_position_embeddings=text.get("max_position_embeddings") or 0,
        weight_bytes=file_bytes or computed_bytes(config),
        experts=experts,
        expert_size=inner if experts else 0,
        sparse_layers=counted.sparse,
        active_parameters=counted.active if experts or latent else 0,
        latent_width=latent + number(text, "qk_rope_head_dim") if latent else 0,
    )


_MOST = 1 << 30
"""Upper bound of a dimension."""
