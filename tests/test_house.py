"""The rules of the house that a linter does not know."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.bench.house_budgets import EXTENSIONS, house_figures
from tests.bench.house_modules import circles, import_graph, read_modules, tree_of
from tests.budgets import HOUSE, PATHS

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
TOP_LEVEL = {
    *PACKAGES,
    "tests",
    "examples",
    "pyproject.toml",
    "requirements.lock",
    "locks",
    "README.md",
    "CHANGELOG.md",
    "DECISIONS.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    ".ci",
    ".gitignore",
    ".gitattributes",
    "docs",
}
LIMIT = 500
PAGE = 100
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "types", "misc"}
METAPHORS = re.compile(
    r"(attic|bench|board|books|crew|crowd|desk|dialect|errand|flip|heard|hints|looking|looks|mirror"
    r"|notebook|occasions?|office|paced?|rack|rooms|scenes?|scribe|seats?|sights?|splice|spot"
    r"|standing|subject|telling|tidy|told|twin|walk|wish)"
)
"""Words that name no module and no class: a reader of the field would look for another word."""
VAGUE = re.compile(
    r"\b(nobody|somebody|someone|whoever|whom|who|it|one|what|each|so many)\b", re.IGNORECASE
)
"""Words that name nothing: none stands in the first sentence of a docstring."""
QUOTED = re.compile(r"`[^`]*`")
SENTENCE = re.compile(r"(?<=[.:;])\s|\n\n")
FORBIDDEN_CLASSES = re.compile(r"^class \w*(Manager|Service|Handler|Factory)\b", re.MULTILINE)


def tracked(pattern: str = "") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *([pattern] if pattern else [])],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return [REPOSITORY / line for line in listed.stdout.splitlines() if line]


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]


def lines_by_subject() -> dict[str, tuple[int, int]]:
    """Return the core lines that a subject may add, and those it has added; from the decisions."""
    text = (REPOSITORY / "DECISIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([+-][\d,]+|0) \| ([+-][\d,]+|0) \|$", text, re.MULTILINE)
    return {
        subject: (int(most.replace(",", "")), int(added.replace(",", "")))
        for subject, most, added in rows
    }


def test_nothing_else_stands_at_the_top_level() -> None:
    found = {path.relative_to(REPOSITORY).parts[0] for path in tracked()}
    assert found - TOP_LEVEL == set()


def test_no_python_file_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in tracked("*.py")
        if path.exists() and (lines := path.read_text(encoding="utf-8").count("\n")) > LIMIT
    }
    assert long == {}


def test_no_figure_of_the_house_exceeds_its_budget() -> None:
    measured = house_figures(read_modules(REPOSITORY))
    allowed = {name: budget.ceiling for name, budget in HOUSE.items()}
    allowed["core lines"] += sum(added for _, added in lines_by_subject().values())
    assert measured.keys() == allowed.keys()
    assert {name: figure for name, figure in measured.items() if figure > allowed[name]} == {}


def test_each_package_that_is_counted_as_an_extension_is_there() -> None:
    names = read_modules(REPOSITORY).keys()
    assert [extension for extension in EXTENSIONS if extension not in names] == []


def test_no_subject_adds_more_lines_than_it_may() -> None:
    rows = lines_by_subject()
    assert rows
    assert {subject: row for subject, row in rows.items() if row[1] > row[0]} == {}


def test_no_path_through_the_code_exceeds_its_budget() -> None:
    command = [sys.executable, "-m", "tests.bench.paths", "--format", "json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    measured = {
        f"{path}: {unit}": figure
        for path, figures in json.loads(done.stdout).items()
        for unit, figure in figures.items()
    }
    assert {name: measured[name] for name in PATHS if measured[name] > PATHS[name].ceiling} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in modules() if path.stem in FORBIDDEN_NAMES] == []


def test_no_class_is_called_manager_service_handler_or_factory() -> None:
    found = [path.name for path in modules() if FORBIDDEN_CLASSES.search(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_explains_itself(package: str) -> None:
    assert (REPOSITORY / package / "README.md").read_text(encoding="utf-8").count("\n") > 20


def test_the_readme_of_a_package_fits_on_a_page() -> None:
    pages = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("README.md")]
    long = {str(path): lines for path in pages if (lines := len(_lines(path))) > PAGE}
    assert long == {}


def test_no_module_and_no_class_is_named_by_a_metaphor() -> None:
    classes = [node.name for tree in _trees().values() for node in _classes(tree)]
    words = {word.lower() for name in classes for word in re.findall(r"[A-Z][a-z]+", name)}
    words |= {word for path in modules() for word in path.stem.split("_")}
    assert [word for word in sorted(words) if METAPHORS.fullmatch(word)] == []


def test_a_class_name_has_one_home() -> None:
    homes = Counter(node.name for tree in _trees().values() for node in _classes(tree))
    assert {name: count for name, count in homes.items() if count > 1} == {}


def test_no_circle_of_files() -> None:
    assert circles(import_graph(read_modules(REPOSITORY))) == []


def test_the_first_sentence_of_a_docstring_names_its_things() -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}:{line}: {first}"
        for path, tree in _trees().items()
        for line, text in _docstrings(tree)
        for first in [SENTENCE.split(text.strip(), maxsplit=1)[0]]
        if VAGUE.search(QUOTED.sub("", first))
    }
    assert found == set()


def test_a_loop_variable_is_a_noun() -> None:
    names = {
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "each"
    }
    assert names == set()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of all docstrings, those of attributes and constants too."""
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=body) | ast.ClassDef(body=body):
                texts = body
            case ast.FunctionDef(body=[first, *_]) | ast.AsyncFunctionDef(body=[first, *_]):
                texts = [first]
            case _:
                continue
        for text in texts:
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                yield text.lineno, str(text.value.value)


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: tree_of(path) for path in modules()}


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def test_every_module_has_a_docstring() -> None:
    bare = [path for path in modules() if not path.read_text("utf-8").lstrip().startswith('"""')]
    assert bare == []


def test_the_lock_names_no_host_and_pins_by_hash() -> None:
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--hash=sha256:" in text


def test_the_command_line_imports_no_engine_and_starts_lean() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from fleetctl.cli import main_group;"
        "result = CliRunner().invoke(main_group, ['--help']); assert result.exit_code == 0;"
        "print([m for m in ('vllm','torch','numpy','pydantic','httpx','networkx','deepdiff',"
        "'ruamel.yaml','jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
