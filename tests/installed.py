"""Makes an environment with fleetctl from a wheel of this checkout, as people install it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
OWN = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
"""Variables of this test run that an installed program must not see."""


def environment() -> dict[str, str]:
    """Return the environment variables for an installed program."""
    return {name: text for name, text in os.environ.items() if name not in OWN}


def install_wheel(folder: Path) -> Path:
    """Build a wheel, install it with the locked versions of its needs; return `bin/fleetctl`."""
    uv = str(REPOSITORY / "runtime" / "uv.sh")
    build = [uv, "build", "--quiet", "--wheel", "--out-dir", str(folder / "wheels"), "."]
    subprocess.run(build, cwd=REPOSITORY, check=True)
    (wheel,) = (folder / "wheels").glob("fleetctl-*.whl")
    made = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    python = str(made / "bin" / "python")
    options = ["--quiet", "--constraints", "requirements.lock"]
    install = [uv, "pip", "install", *options, "--python", python, str(wheel)]
    subprocess.run(install, cwd=REPOSITORY, check=True)
    return made / "bin" / "fleetctl"


KILLS = "import os, signal\nif 'KILL' in os.environ: os.kill(os.getppid(), signal.SIGKILL)\n"


def stand_in(folder: Path) -> Path:
    """Make a folder with a package of vLLM's name, whose import kills its parent if told to."""
    folder.mkdir()
    info = "vllm-0.32.9.dist-info"
    files = {
        "vllm/__init__.py": f"{KILLS}__version__ = '0.32.9'\n",
        "vllm/engine.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "vllm-0.32.9-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return folder
