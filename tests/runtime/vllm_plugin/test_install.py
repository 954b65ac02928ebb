"""The distribution as `fleetctl vllm install` installs it: no network, nothing left in the tree."""

import json
import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[3] / "runtime" / "vllm_plugin"
INSTALL = ("--quiet", "--offline", "--reinstall", "--no-deps")


def test_it_installs_offline_and_offers_itself_to_vllm(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    before = {path for path in PLUGIN.rglob("*") if "__pycache__" not in path.parts}
    installer = PLUGIN.parent / "operations" / "machines" / "vllm_install.py"
    assert str(INSTALL)[1:-1].replace("'", '"') in installer.read_text(encoding="utf-8")
    words = ["pip", "install", *INSTALL, "--python", str(python), str(PLUGIN)]
    subprocess.run([PLUGIN.parent / "uv.sh", *words], check=True)
    assert {path for path in PLUGIN.rglob("*") if "__pycache__" not in path.parts} == before
    probe = (
        "import importlib.metadata as metadata, json\n"
        "found = metadata.entry_points(group='vllm.general_plugins')\n"
        "names = metadata.requires('fleetctl-resolver') or []\n"
        "print(json.dumps([[each.name, each.value] for each in found] + names))"
    )
    done = subprocess.run([python, "-c", probe], check=True, capture_output=True, cwd=tmp_path)
    assert json.loads(done.stdout) == [["fleetctl_resolver", "fleetctl_resolver.resolver:register"]]
