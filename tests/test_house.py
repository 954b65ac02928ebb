"""The rules of the house that a linter does not know."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
TOP_LEVEL = {
    *PACKAGES,
    "tests",
    "examples",
    "pyproject.toml",
    "requirements.lock",
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
LIMIT = 300
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "types", "misc"}
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


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in modules() if path.stem in FORBIDDEN_NAMES] == []


def test_no_class_is_called_manager_service_handler_or_factory() -> None:
    found = [path.name for path in modules() if FORBIDDEN_CLASSES.search(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_explains_itself_on_one_page(package: str) -> None:
    text = (REPOSITORY / package / "README.md").read_text(encoding="utf-8")
    assert 20 < text.count("\n") < 120


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
