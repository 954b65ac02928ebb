"""An interpreter of vLLM that runs as on a processor of 2013: AVX2, no AVX-512, no AMX.

vLLM asks `torch.cpu` what the processor can do, and picks its compiled library and its kernels by
the answers; ATen and oneDNN read a variable each. `python -m tests.older_processor FOLDER`
makes an environment in FOLDER that sees all of `.venv-vllm` and gives the answers of the older
processor, and prints its interpreter, for `FLEETCTL_VLLM_PYTHON`. Processors differ in rounding
and in the sizes that a kernel takes: a test that passes with both depends on neither.
"""

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOOK = '''"""Answers for vLLM, ATen and oneDNN as on a processor without AVX-512 and AMX."""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
ABSENT = ("amx_tile", "amx_fp16", "avx512", "avx512_bf16", "vnni")


class OlderProcessor(MetaPathFinder):
    """Lets `torch.cpu` be imported, then answers in its place."""

    def find_spec(self, name, path, target=None):
        if name != "torch.cpu":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            for instructions in ABSENT:
                setattr(module, f"_is_{instructions}_supported", lambda: False)

        spec.loader.exec_module = loaded
        return spec


sys.meta_path.insert(0, OlderProcessor())
'''


def make(folder: Path, python: Path) -> Path:
    """Make the environment beside that of `python`, and return its interpreter."""
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    subprocess.run([python, "-m", "venv", "--without-pip", "--clear", folder], check=True)
    (inside,) = folder.glob("lib/python*/site-packages")
    (inside / "older_processor.py").write_text(HOOK, encoding="utf-8")
    (inside / "older_processor.pth").write_text("import older_processor\n", encoding="utf-8")
    for entry in Path(packages).iterdir():
        (inside / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def main() -> None:
    """Make the environment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, default=REPOSITORY / ".venv-vllm/bin/python")
    arguments = parser.parse_args()
    sys.stdout.write(f"{make(arguments.folder.resolve(), arguments.python)}\n")


if __name__ == "__main__":
    main()
