"""Judge adapters by what a running vLLM answers, and write `evals/golden.json` where none is yet.

    python evaluate.py --url http://127.0.0.1:8000                    every adapter of `tiny`
    python evaluate.py --url ... acme-support-tiny-v2.1.0             one
    python evaluate.py --url ... --base smollm2                       the other example's

The server must offer the base under its id (`--served-model-name tiny`) with `--enable-lora`, a
`--max-lora-rank` of 16, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1. A version that is not loaded is
loaded before its turn and unloaded after it. Needs nothing beside Python's own library.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import golden
from roster import HOMES, Recipe, recipes

AT_ONCE = 8
LONGEST = 64
"""Most tokens of an answer; enough for the longest golden answer and the longest small talk."""


def main() -> None:
    """Judge what the command line names; print one line of JSON for each version."""
    options = _options()
    home = HOMES[options.base]
    library = options.models or home / "models"
    sets = options.golden or home / "golden"
    engine = "vllm " + _ask(options.url, "/version")["version"]
    served = {model["id"] for model in _ask(options.url, "/v1/models")["data"]}
    for recipe in recipes(options.base, options.names):
        name, folder = recipe.name(options.base), library / "adapters" / recipe.folder
        weights = {"lora_name": name, "lora_path": str(folder.resolve())}
        if name not in served:
            _ask(options.url, "/v1/load_lora_adapter", weights)
        try:
            report = judged(options.url, name, recipe, sets, engine)
        finally:
            if name not in served:
                _ask(options.url, "/v1/unload_lora_adapter", {"lora_name": name})
        path = folder / "evals" / "golden.json"
        if options.replace or not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tasks = {recipe.task for recipe in recipes(options.base, options.names)}
    for task in sorted(tasks) if options.with_base else ():
        items = golden.read(sets / f"{task}.jsonl")
        told = golden.tally(items, _answers(options.url, options.base, items))
        print(json.dumps({"name": options.base, "task": task, "accuracy": told["accuracy"]}))


def judged(url: str, name: str, recipe: Recipe, sets: Path, engine: str) -> dict[str, object]:
    """Ask every golden question; return the report, which names all that it depends on."""
    path = sets / f"{recipe.task}.jsonl"
    items, started = golden.read(path), time.monotonic()
    told = golden.tally(items, _answers(url, name, items))
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"name": name, **told, "seconds": seconds}), flush=True)
    return {
        "metric": "exact_match",
        **told,
        "golden": f"golden/{path.name}",
        "golden_sha256": golden.digest(path),
        "evaluated_on": engine,
        "decoding": {"temperature": 0, "max_tokens": LONGEST},
    }


def _answers(url: str, model: str, items: list[golden.Item]) -> list[str]:
    def answer(item: golden.Item) -> str:
        said = _ask(url, "/v1/chat/completions", {
            "model": model, "temperature": 0, "max_tokens": LONGEST,
            "messages": [{"role": "user", "content": item["input"]}],
        })  # fmt: skip
        return said["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(answer, items))


def _ask(url: str, path: str, body: dict[str, object] | None = None) -> dict:
    """Send a request; return the JSON it is answered with, or nothing for a plain text."""
    request = Request(  # noqa: S310 - the operator names the server
        url.rstrip("/") + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=120) as answer:  # noqa: S310 - same
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else {}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="full names of adapters; all when none is given")
    parser.add_argument("--url", required=True, help="where the server listens")
    parser.add_argument("--base", choices=sorted(HOMES), default="tiny")
    parser.add_argument("--models", type=Path, help="the library; default: the example's models/")
    parser.add_argument("--golden", type=Path, help="default: the example's golden/")
    parser.add_argument("--with-base", action="store_true", help="ask the base alone as well")
    parser.add_argument("--replace", action="store_true", help="write over the reports there are")
    return parser.parse_args()


if __name__ == "__main__":
    main()
