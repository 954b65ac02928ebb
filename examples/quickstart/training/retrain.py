"""Train the next version of an adapter: what `fleetctl retrain run` starts.

    python training/retrain.py acme-triage 1.0.1 --base tiny --out FOLDER

Takes the recipe of the newest sound version on the roster with a seed of its own, so with fresh
examples, and leaves the adapter in FOLDER. No golden question is trained on.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from adapters import make_adapter
from roster import HOMES, ROSTERS, Recipe


def main() -> None:
    """Train, and print one line of JSON with loss and seconds."""
    options = _options()
    torch.set_num_threads(options.threads)
    project = Path(__file__).resolve().parents[1]
    sets = options.golden or project / "golden"
    base_folder = options.base_folder or project / "models" / "base" / options.base
    recipe = _recipe(options.base, options.alias, options.version)
    if options.steps:
        recipe = replace(recipe, steps=options.steps)
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch)
        made = make_adapter(recipe, options.base, base_folder, library, sets)
        shutil.copytree(library / "adapters" / recipe.folder, options.out, dirs_exist_ok=True)
    print(json.dumps(made), flush=True)


def _recipe(base: str, alias: str, version: str) -> Recipe:
    sound = [
        each
        for each in ROSTERS[base]
        if f"{each.client}-{each.task}" == alias and each.defect is None
    ]
    if not sound:
        raise SystemExit(f"No recipe for {alias}; the roster of {base} has none without a defect.")
    seed = int("".join(f"{int(part):02d}" for part in version.split(".")))
    return replace(sound[-1], version=version, seed=seed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("alias", help="client-task, such as acme-triage")
    parser.add_argument("version", help="of the new adapter, such as 1.0.1")
    parser.add_argument("--out", type=Path, required=True, help="where the adapter goes")
    parser.add_argument("--base", choices=sorted(HOMES), default="tiny")
    parser.add_argument("--base-folder", type=Path, help="default: models/base/ID of the project")
    parser.add_argument("--golden", type=Path, help="default: the project's golden/")
    parser.add_argument("--steps", type=int, help="fewer than the recipe's, to try it out")
    parser.add_argument("--threads", type=int, default=2, help="1 where other work runs beside")
    return parser.parse_args()


if __name__ == "__main__":
    main()
