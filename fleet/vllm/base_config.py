"""Reads the config.json of a base."""

from collections.abc import Mapping
from typing import Any

from fleet.codes import diagnostic
from fleet.errors import ConfigError, did_you_mean
from fleet.hardware import BaseShape
from fleet.vllm.base_weights import computed_bytes, text_of

_REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
             "intermediate_size")  # fmt: skip
_OPTIONAL = ("num_key_value_heads", "head_dim", "max_position_embeddings")


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
    architectures = text.get("architectures")
    return BaseShape(
        **{name: text[name] for name in _REQUIRED},
        architecture=str(architectures[0]) if architectures else str(text.get("model_type", "")),
        num_key_value_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or max(hidden // heads, 1),
        max_position_embeddings=text.get("max_position_embeddings") or 0,
        weight_bytes=file_bytes or computed_bytes(config),
    )


_MOST = 1 << 30
"""Upper bound of a dimension."""
