"""Registers the resolver with vLLM; the only module of the house that imports the engine."""

import asyncio
import copy
import hashlib
import os
from functools import wraps
from pathlib import Path
from typing import Any

from vllm.logger import init_logger
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from .adapters import UntrustedAdapterError, trusted_folder
from .copies import CheckedReads

try:
    from vllm.lora.worker_manager import WorkerLoRAManager
except ImportError:  # a release whose workers read adapters elsewhere
    WorkerLoRAManager = None

PLUGIN = "fleetctl_resolver"
FILE = "FLEETCTL_ADAPTERS"
"""Environment variable with the path of the file of adapters."""

# vLLM gives a level and a handler to the loggers under its own name alone.
logger = init_logger(f"vllm.{PLUGIN}")


class NameClosedResolver(LoRAResolver):
    """Resolves the names in the file of adapters, and no other name.

    vLLM asks for every model name that it does not hold, one request a name at a time.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """Return the adapter of a name, its bytes checked now; None: vLLM answers with 404.

        Never raises: an error here would be a status 500 for the client.
        """
        del base_model_name  # the file belongs to this server
        try:
            folder = await asyncio.to_thread(trusted_folder, self._file, lora_name)
        except UntrustedAdapterError as error:
            logger.error("Adapter %r is not loaded: %s", lora_name, error)  # noqa: TRY400 (no bug)
            return None
        return None if folder is None else LoRARequest(lora_name, _number(lora_name), folder)


def _number(name: str) -> int:
    """Return an id of 1 or more; vLLM puts one of its own counter in its place.

    A release that did not would still never give one id to two adapters.
    """
    return 1 + int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:7])


def check_reads() -> None:
    """Let the workers of this process read adapters through `CheckedReads`.

    vLLM has no hook for it. A release whose workers read in another way goes on unchecked, with an
    error in the log.
    """
    load = getattr(WorkerLoRAManager, "_load_adapter", None)
    if load is None:
        logger.error("Adapters that are read again are not checked: vLLM reads them elsewhere")
        return
    reads = CheckedReads()

    @wraps(load)
    def checked(manager: WorkerLoRAManager, request: LoRARequest) -> Any:
        def load_from(folder: str) -> Any:
            if folder == request.lora_path:
                return load(manager, request)
            logger.error("%s is damaged; its bytes are read from %s", request.lora_path, folder)
            elsewhere = copy.copy(request)
            elsewhere.lora_path = folder
            return load(manager, elsewhere)

        return reads.read(request.lora_path, load_from)

    WorkerLoRAManager._load_adapter = checked  # noqa: SLF001 (no hook)


def register() -> None:
    """Register the resolver if `VLLM_PLUGINS` names the plug-in and a file is given."""
    file = os.environ.get(FILE)
    if file and PLUGIN in os.environ.get("VLLM_PLUGINS", "").split(","):
        LoRAResolverRegistry.register_resolver(PLUGIN, NameClosedResolver(Path(file)))
        check_reads()
