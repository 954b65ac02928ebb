"""Decides which flags of vLLM a base may declare, with which values, and their arguments.

A flag is known by the name that vLLM's parser lists, and by no other spelling: the parser completes
beginnings of names, reads underscores as hyphens, and takes dotted names as parts of JSON. A flag
is `name` with a value, or for a switch `name` or `no-name` with an empty value.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fleet.codes import nearest
from fleet.vllm.known_flags import ALIASES, CHOICES, RELEASE, TAKES

_PART = r"""[^ \t\r\n'"\\]++|\\.|'[^']*+'|"(?:[^"\\]++|\\.)*+\""""
_PARTS = re.compile(_PART, re.DOTALL)
_WORD = re.compile(rf"(?:{_PART})++", re.DOTALL)
_LINE = re.compile(rf"[ \t\r\n]*+(?:(?:{_PART})++(?:[ \t\r\n]++|\Z))*+", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text; quotes and backslashes keep blanks in a word.

    Raises:
        ValueError: a quote or a backslash is left open.
    """
    if _LINE.fullmatch(text) is None:
        raise ValueError("a quote or a backslash is left open")
    return tuple("".join(map(_plain, _PARTS.findall(word))) for word in _WORD.findall(text))


def _plain(part: str) -> str:
    match part[0]:
        case "'":
            return part[1:-1]
        case '"':
            return _ESCAPED.sub(r"\1", part[1:-1])
        case "\\":
            return part[1:]
        case _:
            return part


FLAG_KINDS: Mapping[str, str] = {
    flag: kind for kind, flags in TAKES.items() for flag in flags.split()
}
"""Kind of value, by the name of the flag."""
_NAMES = tuple(sorted(FLAG_KINDS))
_SHOWN_RELEASE = ".".join(map(str, RELEASE))

_PLAIN_HTTP = "gateways call servers over plain HTTP at `/v1`"
_PAGES = "servers show no pages"
_DIGEST = "it stamps the digest of the flags"
_ADAPTERS = "adapters are loaded by `apply`"
RESERVED: Mapping[str, str] = {
    "api-key": "gateways check clients' keys, and `servers_secret` gives servers theirs",
    "default-mm-loras": _ADAPTERS,
    "device-ids": "the plan chooses devices",
    "disable-fastapi-docs": _PAGES,
    "disable-uvicorn-access-log": "the gateway writes a line per request",
    "dtype": "set `dtype`",
    "enable-lora": "it is always on",
    "enable-offline-docs": _PAGES,
    "fingerprint-mode": _DIGEST,
    "fingerprint-value": _DIGEST,
    "gpu-memory-utilization": "the planner sets it; see `kv_cache` and the device's `memory`",
    "hf-token": "a secret would stand on the command line, and servers load files alone",
    "host": "set `address` on the host",
    "kv-cache-memory-bytes": "set `kv_cache`",
    "lora-modules": _ADAPTERS,
    "max-cpu-loras": "the planner sets it",
    "max-lora-rank": "set `max_lora_rank`",
    "max-loras": "set `max_loras`",
    "max-model-len": "set `max_model_len`",
    "model": "set `model`",
    "port": "set `port` on the host or device",
    "served-model-name": "it is the base's name",
    "shutdown-timeout": "running requests get a fixed time before a server stops",
    "tensor-parallel-size": "set `tensor_parallel`",
    "uds": "servers listen on the host's `address` and `port`",
    **dict.fromkeys(
        (  # noqa: SIM905 (a word a line would bury them)
            "enable-ssl-refresh grpc grpc-port headless root-path ssl-ca-certs ssl-cert-reqs "
            "ssl-certfile ssl-ciphers ssl-keyfile tokens-only"
        ).split(),
        _PLAIN_HTTP,
    ),
}
"""Reason why no declaration may set a flag that is fleetctl's own, by the flag's name."""

GUARDED: Mapping[str, str] = {
    **dict.fromkeys(
        (  # noqa: SIM905
            "additional-config code-revision compilation-config config "
            "distributed-executor-backend ec-manager-config ec-transfer-config hf-overrides "
            "io-processor-plugin kv-transfer-config load-format log-config-file logging-config "
            "logits-processors middleware model-class-overrides model-impl "
            "model-loader-extra-config ray-workers-use-nsight reasoning-parser-plugin "
            "scheduler-cls spec-model speculative-config structured-outputs-config "
            "tool-parser-plugin tool-server trust-remote-code weight-transfer-config worker-cls "
            "worker-extension-cls"
        ).split(),
        "vLLM can be told by it to run code that is not vLLM's own",
    ),
    **dict.fromkeys(
        (  # noqa: SIM905
            "allow-credentials allowed-headers allowed-local-media-path allowed-methods "
            "allowed-origins enable-elastic-ep enable-fault-tolerance enable-mm-embeds "
            "enable-prompt-embeds enable-scale-out enable-tokenizer-info-endpoint "
            "enable-trace-replay log-error-stack profiler-config trust-request-chat-template "
            "trust-request-mm-kwargs"
        ).split(),
        "callers of the server can do more with it, or see more of the machine",
    ),
    **dict.fromkeys(
        (  # noqa: SIM905
            "data-parallel-address data-parallel-backend data-parallel-external-lb "
            "data-parallel-hybrid-lb data-parallel-multi-port-external-lb data-parallel-rank "
            "data-parallel-rpc-port data-parallel-size-local data-parallel-start-rank "
            "data-parallel-supervisor-port kv-events-config master-addr master-port nnodes "
            "node-rank otlp-traces-endpoint"
        ).split(),
        "the server listens to, or sends to, other places than its own address",
    ),
    **dict.fromkeys(
        ("enable-log-outputs", "enable-log-requests"), "texts of clients would stand in its log"
    ),
    **dict.fromkeys(
        ("download-dir", "mm-encoder-fp8-scale-save-path"), "the server writes files by it"
    ),
}
"""Reason why the operator must allow a flag on a host, by the flag's name."""

_FREE_VALUES: Mapping[str, frozenset[str]] = {
    "distributed-executor-backend": frozenset({"mp", "ray", "uni", "external_launcher"}),
    "load-format": frozenset(
        {"auto", "dummy", "hf", "mistral", "npcache", "pt", "safetensors", "sharded_state"}
    ),
    "model-impl": frozenset({"auto", "transformers", "vllm"}),
}
"""Values with which a guarded flag is free: of vLLM's own, and weights that are read as data."""
PATHS = frozenset(
    {"chat-template", "generation-config", "hf-config-path", "mm-encoder-fp8-scale-path",
     "tokenizer"}
)  # fmt: skip
"""Flags whose value may be a path: free within the project, links followed, guarded outside."""
_OUTSIDE = re.compile(r"(/|~|file:)|.*(^|/)\.\.(/|$)", re.DOTALL)

_LONGEST = 16_384
"""Upper bound of the characters of a value; Linux ends an argument at 128 KiB."""
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "number": (re.compile(r"-?[0-9]{1,18}"), "a whole number"),
    # The parser takes an argument with a dash and a point for a part of JSON.
    "decimal": (
        re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?(e-?[0-9]{1,2})?"),
        "a number, not below 0",
    ),
    "size": (re.compile(r"-1|auto|[0-9]{1,18}(\.[0-9]{1,18})?[kKmMgGtT]?"), "a size such as 8k"),
    "text": (re.compile(r"(?!-)[^\x00-\x08\x0b-\x1f\x7f]+"), "a text that begins with no dash"),
}


@dataclass(frozen=True, slots=True)
class FlagFault:
    """A flag that may not be declared so."""

    code: str
    detail: str
    """The part of a sentence that follows the flag's name and a colon."""
    hint: str
    """Empty: see `spelling_hint`."""


def fault_of(flag: str, value: str, allowed: Collection[str] | None = ()) -> FlagFault | None:
    """Return why a flag may not be given to a server with this value; None: the flag may.

    `allowed`: flags that the operator lets run code on the host; None: nothing is run there. An
    allowed flag need not be known, for releases of vLLM with other flags.
    """
    name = flag.removeprefix("no-")
    name = name if FLAG_KINDS.get(name) == "switch" else flag
    meant = ALIASES.get(name, name)
    if meant in RESERVED:
        other = "" if meant == name else f"vLLM may read it as `{meant}`; "
        return FlagFault("FC1215", f"{other}{RESERVED[meant]}", "Delete the flag.")
    if name not in FLAG_KINDS:
        return None if name in (allowed or ()) and not _leads_on(value) else _unknown(flag)
    if misfit := _misfit(name, value):
        return FlagFault("FC1331", misfit, "Values of several words are quoted within the value.")
    reason = _guard(name, value)
    if not reason or flag != name or allowed is None or name in allowed:
        return None
    hint = "If you trust what it does there, say so on the machine that applies."
    return FlagFault("FC1332", reason, hint)


def words_of(flag: str, value: str) -> tuple[str, ...]:
    """Return the arguments after the flag: none for a switch, and JSON as a single argument.

    Raises:
        ValueError: a quote in the value is left open.
    """
    if FLAG_KINDS.get(flag) in ("json", "text") and _is_json(value):
        return (value,)
    return split_words(value)


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict | list)
    except (ValueError, RecursionError):
        return False


def _leads_on(value: str) -> bool:
    """Return whether a word of the value could be read as a further flag."""
    return any(word.startswith("-") for word in split_words(value))


def _unknown(flag: str) -> FlagFault:
    detail = f"vLLM {_SHOWN_RELEASE} has no flag of this name"
    if meant := ALIASES.get(flag):
        return FlagFault("FC1330", detail, f"Write the long name: `{meant}`.")
    if flag.startswith("no-") and flag[3:] in FLAG_KINDS:
        return FlagFault("FC1330", "vLLM has no opposite of it", "Delete the flag.")
    return FlagFault("FC1330", detail, "")


def path_in(flag: str, value: str) -> str:
    """Return the path in the project that a flag may name; empty: none.

    A path outside needs the operator's word for the flag, which `fault_of` asks for.
    """
    path = " ".join(words_of(flag, value)) if flag in PATHS else ""
    return "" if _OUTSIDE.match(path) else path


def spelling_hint(flag: str) -> str:
    """Return a hint on a name that no list has; takes milliseconds."""
    near = nearest(flag, _NAMES)
    other = "A flag of another release: `fleetctl trust add --code FLAG --host HOST`."
    return near[:1].upper() + near[1:] if near else other


def _guard(name: str, value: str) -> str:
    if name in PATHS and not path_in(name, value):
        return "the path leads out of the project"
    free = _FREE_VALUES.get(name, frozenset())
    return "" if {*words_of(name, value)} & free else GUARDED.get(name, "")


def _misfit(name: str, value: str) -> str:
    """Return the fault in the value of a known flag; empty: none."""
    kind = FLAG_KINDS[name]
    if len(value) > _LONGEST:
        return f"its value has more than {_LONGEST} characters"
    words = words_of(name, value)
    if kind in ("switch", "bare"):
        other = " or `false`" if kind == "switch" else ""
        return f"it takes no value; write `true`{other}" if words else ""
    if not words:
        return "it needs a value"
    if kind not in ("texts", "numbers") and len(words) > 1:
        return f"it takes one value, and this is read as {len(words)}"
    if kind == "json":
        return "" if _is_json(words[0]) else "its value is a JSON object or list"
    return next(filter(None, (_word_misfit(name, word) for word in words)), "")


def _word_misfit(name: str, word: str) -> str:
    form, says = _FORMS[FLAG_KINDS[name].removesuffix("s")]
    if form.fullmatch(word) is None:
        return f"its value is not {says}"
    choices = CHOICES.get(name, "").split()
    return f"its value is one of {', '.join(choices)}" if choices and word not in choices else ""
