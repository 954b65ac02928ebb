"""Reads the config.json of a base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.codes import diagnostic
from fleet.errors import ConfigError, did_you_mean
from fleet.hardware import BaseShape

_BITS: Mapping[str, float] = {"float32": 32, "float": 32, "float8_e4m3fn": 8}
"""Bits of a parameter by `dtype`, where not 16."""


EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Names of the number of experts."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a base, by how quantisation treats their kind."""

    linear: int
    """Of attention and dense feed-forward layers."""
    experts: int
    """Of all experts that a router chooses among."""
    plain: int
    """Of embeddings, output layer, norms, routers and image encoder: never quantised."""
    active: int
    """Parameters that a token is multiplied with, input embedding left out."""
    sparse: int
    """Layers with experts."""


def count(config: Mapping[str, Any]) -> Parameters:
    """Return the parameters that a config.json describes, of a decoder with gated feed-forward.

    Of the models that Hugging Face's names of fields describe: Llama, Mistral, Qwen, Gemma, Phi-3,
    Mixtral, Qwen-MoE, gpt-oss, DeepSeek. Layers of other kinds count as such layers.

    Source:
        The parameters that the publishers' safetensors indexes list (`tests/fleet/vllm`).
    """
    text = text_of(config)
    hidden, inner = number(text, "hidden_size"), number(text, "intermediate_size")
    layers, vocabulary = number(text, "num_hidden_layers"), number(text, "vocab_size")
    wide, attention = 3 * hidden, layers * _attention(text, hidden)
    kinds = number(text, *EXPERTS)
    sparse = _sparse_layers(text, layers) if kinds else 0
    expert = wide * (number(text, "moe_intermediate_size") or inner)
    shared = number(text, "n_shared_experts") * expert
    shared += wide * number(text, "shared_expert_intermediate_size")
    linear = attention + (layers - sparse) * wide * inner + sparse * shared
    router, output = sparse * kinds * hidden, vocabulary * hidden
    chosen = min(number(text, "num_experts_per_tok", "top_k_experts") or kinds, kinds)
    plain = router + (1 if is_tied(config) else 2) * output + (2 * layers + 1) * hidden
    active = linear + sparse * chosen * expert + router + output
    return Parameters(linear, sparse * kinds * expert, plain + _images(config), active, sparse)


def computed_bytes(config: Mapping[str, Any]) -> int:
    """Return the bytes of the weights that a config.json describes; 0: quantised in an unknown way.

    Source:
        Weights of AWQ and GPTQ have a scale of 16 bit and a zero point a group; MXFP4 has 8 bit a
        group of 32, of the experts alone (gpt-oss); NVFP4 8 bit a group of 16.
    """
    text, counted = text_of(config), count(config)
    name = str(text.get("dtype") or text.get("torch_dtype") or "").removeprefix("torch.")
    usual = _BITS.get(name, 16)
    quantised = config.get("quantization_config") or text.get("quantization_config")
    if not isinstance(quantised, Mapping):
        return int((counted.linear + counted.experts + counted.plain) * usual / 8)
    bits = _quantised_bits(quantised)
    if bits is None:
        return 0
    linear = usual if quantised.get("quant_method") == "mxfp4" else bits
    return int((counted.linear * linear + counted.experts * bits + counted.plain * usual) / 8)


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the text model, and for other names those of the whole config.json."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def is_tied(config: Mapping[str, Any]) -> bool:
    """Say whether output layer and embedding are the same weights; unsaid, Gemma's alone are."""
    text = text_of(config)
    usual = str(text.get("model_type", "")).startswith("gemma")
    return bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", usual)))


def number(config: Mapping[str, Any], *names: str) -> int:
    """Return the first whole number above 0 among the fields `names`; 0: there is none."""
    values = map(config.get, names)
    return next((value for value in values if type(value) is int and value > 0), 0)


def _attention(text: Mapping[str, Any], hidden: int) -> int:
    """Return the parameters of the attention of a layer."""
    heads = number(text, "num_attention_heads")
    latent = number(text, "kv_lora_rank")
    if latent:  # MLA: DeepSeek-V2, arXiv:2405.04434, section 2.1
        rope, bare = number(text, "qk_rope_head_dim"), number(text, "qk_nope_head_dim")
        values, squeezed = number(text, "v_head_dim"), number(text, "q_lora_rank")
        query = heads * (bare + rope)
        query = squeezed * (hidden + query) if squeezed else hidden * query
        keys = hidden * (latent + rope) + latent * heads * (bare + values)
        return query + keys + heads * values * hidden
    head = number(text, "head_dim") or hidden // max(heads, 1)
    return 2 * hidden * head * (heads + (number(text, "num_key_value_heads") or heads))


def _sparse_layers(text: Mapping[str, Any], layers: int) -> int:
    """Return the number of layers with experts."""
    first, step = number(text, "first_k_dense_replace"), number(text, "decoder_sparse_step") or 1
    listed = text.get("mlp_only_layers")
    dense = {*listed} if isinstance(listed, list) else set()
    numbers = range(first, min(layers, 10_000))
    return sum(at not in dense and (at + 1) % step == 0 for at in numbers)


def _images(config: Mapping[str, Any]) -> int:
    """Return the parameters of an image encoder, its feed-forward layers taken for gated ones."""
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    width = number(vision, "hidden_size", "embed_dim")
    inner = number(vision, "intermediate_size") or 4 * width
    return number(vision, "num_hidden_layers", "depth") * width * (4 * width + 3 * inner)


def _quantised_bits(settings: Mapping[str, Any]) -> float | None:
    """Return the bits of a quantised parameter with its share of scales; None: unknown way."""
    bits: float | None = None
    match settings.get("quant_method"):
        case "fp8" | "fbgemm_fp8":
            bits = 8
        case "mxfp4":
            bits = 4 + 8 / 32
        case "awq" | "gptq":
            own, group = number(settings, "bits", "w_bit"), number(settings, "group_size")
            bits = own + ((16 + own) / group if group else 0) or None
        case "bitsandbytes":
            bits = 8 if settings.get("load_in_8bit") else 4 + 32 / 64
        case "modelopt":
            bits = {"FP8": 8, "NVFP4": 4 + 8 / 16}.get(str(settings.get("quant_algo")))
        case "compressed-tensors":
            bits = _group_bits(settings.get("config_groups"))
        case _:
            pass
    return bits


def _group_bits(groups: Any) -> float | None:
    """Return the bits of the widest group of `compressed-tensors`; None: there is none."""
    found = groups.values() if isinstance(groups, Mapping) else ()
    weights = [group.get("weights") for group in found if isinstance(group, Mapping)]
    bits = [
        number(own, "num_bits") + (16 / size if (size := number(own, "group_size")) else 0)
        for own in weights
        if isinstance(own, Mapping) and number(own, "num_bits")
    ]
    return max(bits, default=None)


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
