"""Chooses the environment of the programs that fleetctl starts: no secret, nothing unneeded.

A program gets the variables of the list below, those that fleetctl sets, and those that are named
for it: by leading words `env:NAME` of a declared command, or by the operator for a host. A server
gets the key that is derived for its launch.
"""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence

from fleet.errors import FleetError

ALLOWED = frozenset(
    (  # noqa: SIM905 (a word a line would bury them)
        "ALL_PROXY FLEETCTL_RUN_DIR HF_DATASETS_OFFLINE HF_ENDPOINT HF_HOME HF_HUB_CACHE "
        "HF_HUB_OFFLINE HOME HTTPS_PROXY HTTP_PROXY LANG LANGUAGE LD_LIBRARY_PATH LOGNAME NO_PROXY "
        "PATH REQUESTS_CA_BUNDLE SSL_CERT_DIR SSL_CERT_FILE TMPDIR TRANSFORMERS_OFFLINE TZ USER "
        "all_proxy http_proxy https_proxy no_proxy"
    ).split()
)
"""Variables that a program inherits."""
_PREFIXES = (
    "CUDA_", "GOMP_", "HIP_", "HSA_", "KMP_", "LC_", "MKL_", "NCCL_", "NVIDIA_", "OMP_",
    "OPENBLAS_", "PYTORCH_", "ROCM_", "ROCR_", "VLLM_", "XDG_",
)  # fmt: skip
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH")
_USERINFO = re.compile(r"://[^/\s]*@")
FORBIDDEN = (
    "VLLM_SERVER_DEV_MODE",
    "VLLM_SKIP_MODEL_NAME_VALIDATION",
    "VLLM_LORA_RESOLVER_CACHE_DIR",
    "VLLM_LORA_RESOLVER_HF_REPO_LIST",
    "VLLM_API_KEY",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_LOGGING_CONFIG_PATH",
    "VLLM_PLUGINS",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "LD_PRELOAD",
)
"""Variables that open a server up or change its code: inherited where they are named alone."""

SERVER_KEY = "VLLM_API_KEY"
"""Variable from which vLLM takes the key that its paths under `/v1` ask for."""


def server_key(secret: str, server: str, launch: str) -> str:
    """Return the key of a launch of a server, 32 hex digits; empty without a secret or a launch."""
    parts = [part.encode() for part in ("fleetctl server key", server, launch)]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    derived = hmac.new(secret.encode(), message, "sha256").hexdigest()[:32]
    return derived if secret and launch else ""


def secret_mark(secret: str) -> str:
    """Return the mark of a secret of servers' keys, which tells secrets apart and no key."""
    return server_key(secret, "", "mark")


def inherited(variables: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of this process that a program inherits.

    `named`: further variables that are meant for it. A password in an address is a secret.
    """
    wanted = {*named}
    return {
        name: value
        for name, value in variables.items()
        if name in wanted or (_is_allowed(name) and _USERINFO.search(value) is None)
    }


def _is_allowed(name: str) -> bool:
    return name in ALLOWED or (
        name.startswith(_PREFIXES) and name not in FORBIDDEN and _SECRET.search(name) is None
    )


def read_command(
    words: Sequence[str], variables: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the program of a declared command with its arguments, and the inherited variables.

    Leading words `env:NAME` name variables that the program gets as well.

    Raises:
        FleetError: FC1335, such a variable is not set here, or no program follows.
    """
    program = list(words)
    named = []
    while program and program[0].startswith("env:"):
        named.append(program.pop(0).removeprefix("env:"))
    missing = [name for name in named if name not in variables]
    if missing or not program:
        what = f"`{missing[0]}` is not set here" if missing else "it names variables and no program"
        detail = f"Of the command `{' '.join(words)[:80]}`: {what}."
        hint = "Set the variable where fleetctl runs, or take it out of the command."
        raise FleetError.of("FC1335", "Declared command cannot be started", detail, hint=hint)
    return program, inherited(variables, named)
