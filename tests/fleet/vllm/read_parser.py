"""Prints `fleet/vllm/known_flags.py` from the parser of the vLLM that runs this program.

    .venv-vllm/bin/python tests/fleet/vllm/read_parser.py > fleet/vllm/known_flags.py

Run it from the root of the repository for a new release of vLLM, and review every flag that the
difference shows: `fleet/vllm/flag_rules.py` says which flags run code, open the server, or are
fleetctl's own. A flag that no list there names is free to declare.
"""

import argparse
import os
import textwrap
from collections import defaultdict

os.environ["VLLM_PLUGINS"] = ""

import vllm
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

KINDS = {
    "int": "number",
    "float": "decimal",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size",
    "str": "text",
    "loads": "json",
    "_parse_type": "json",
    "parse_type": "json",
    "parse_dataclass": "json",
    "union_dict_and_str": "text",
    "<lambda>": "text",
    "NoneType": "text",
}
DOCSTRING = '''"""Lists the flags of a vLLM server by kind of value.

Written by `tests/fleet/vllm/read_parser.py` from the parser of a real vLLM; a test compares.
"""

'''


def inner(kind: object) -> str:
    """Return the name of the function that reads a value, behind `optional_type`."""
    name = getattr(kind, "__name__", type(kind).__name__)
    if name == "_optional_type":
        cells = [cell.cell_contents for cell in kind.__closure__]  # type: ignore[attr-defined]
        (kind,) = (cell for cell in cells if callable(cell))
        return inner(kind)
    return name


def kind_of(action: argparse.Action) -> str:
    """Return what a flag takes."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    if action.nargs == 0:
        return "bare"
    kind = KINDS[inner(action.type)]
    return f"{kind}s" if action.nargs == "+" else kind


def main() -> None:
    """Print the module."""
    kinds: dict[str, list[str]] = defaultdict(list)
    aliases: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    for action in make_arg_parser(FlexibleArgumentParser())._actions:
        names = [name for name in action.option_strings if not name.startswith("--no-")]
        if not names or "--help" in names:
            continue
        first, *others = sorted(names, key=lambda name: not name.startswith("--"))
        flag = first.removeprefix("--")
        aliases |= {name.lstrip("-"): flag for name in others}
        kinds[kind_of(action)].append(flag)
        if action.choices is not None and inner(action.type) != "<lambda>":
            choices[flag] = sorted(str(one) for one in action.choices if one is not None)
    print(DOCSTRING, end="")
    print(f"RELEASE = ({', '.join(vllm.__version__.split('.')[:2])})\n")
    shown("TAKES", {kind: " ".join(sorted(flags)) for kind, flags in sorted(kinds.items())})
    print('"""Flags by kind of value: a `switch` has a `no-` form, a `bare` flag has none."""\n')
    shown("ALIASES", dict(sorted(aliases.items())))
    print()
    shown("CHOICES", {flag: " ".join(values) for flag, values in sorted(choices.items())})


def shown(name: str, table: dict[str, str]) -> None:
    """Print a table of texts, wrapped."""
    print(f"{name} = {{")
    for key, value in table.items():
        line = f'    "{key}": "{value}",'
        if len(line) <= 100:
            print(line)
            continue
        print(f'    "{key}": """')
        print(textwrap.fill(value, 100, break_on_hyphens=False, break_long_words=False))
        print('""",')
    print("}")


if __name__ == "__main__":
    main()
