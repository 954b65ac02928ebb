"""Each program that the product or a test starts is on every Debian, or in a list of packages.

The lists are those of `make` targets and of the beds. A new program fails here, with the places
that start it: add its package to a list, and a mark to the tests that need it.
"""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.needs import NEEDS, PACKAGES

ROOT: Final = Path(__file__).parent.parent
ON_EVERY_DEBIAN: Final = {"bash", "mount", "sh", "sha256sum", "umount", "yes"}
"""Programs of packages that debootstrap installs in every root."""
BARE: Final = {"git", "make"}
"""Programs of the packages that a newcomer has, as README says."""
IN_ENVIRONMENTS: Final = {"brand-new", "envoy", "no-such-ssh", "uv"}
"""Programs that locks install, or that tests write or miss."""
PACKAGE: Final = {
    **PACKAGES,
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "docker-registry": "docker-registry",
    "node": "nodejs",
    "npm": "npm",
    "patroni": "patroni",
    "pgbouncer": "pgbouncer",
    "podman": "podman",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "radosgw": "radosgw",
}
"""Debian's package of each other program that is started."""
OPTIONAL: Final = {"nginx", "nvidia-smi", "oras"}
"""Programs that are used only where they are, and asked for first."""
LISTS: Final = ("Makefile", "tests/beds/boxes.sh", "tests/beds/bare.sh")
STARTS: Final = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "check_output", "check_call", "call")),
    *("asyncio.create_subprocess_exec", "os.execv", "os.execvp", "os.execvpe"),
    *("run_client", "started", "_do"),
}
"""Functions whose first argument is a command, or the first word of one."""
LOOKED_FOR: Final = re.compile(r"command -v ([a-z][\w.+-]*)")
"""What shells look for, in scripts and in texts of Python."""
SHELL: Final = {
    *("case", "do", "done", "elif", "else", "exit", "export", "fi", "if", "then", "while"),
    *("options", "fleetctl", "apt-get", "cat", "echo", "printf", "python3", "sed", "test", "true"),
}
"""Words of jobs that are the shell's, a template's, or of every machine that jobs run on."""
COMMENTS: Final = re.compile(r"\{[#%].*?[#%]\}|(?:^|(?<=\s))#[^\n]*|\\\n|'[^']*'", re.DOTALL)
COMMAND: Final = re.compile(
    r"(?:(?:^|[|;&(!])|\b(?:then|do|else|if|while|run:)|^ +-)[ \t]+([a-z][\w-]*)(?=[ \t\n;])"
    r"|\$\(([a-z][\w-]*) ",
    re.MULTILINE,
)
"""The first word of a command, in the scripts of a job."""
Lists = Mapping[str, list[ast.List | ast.Tuple]]
NAME: Final = re.compile(r"[a-z][a-z0-9_.+-]*")


def _files(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "-co", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def programs_of_python(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a module looks for or starts, as far as names are literal."""
    lists = defaultdict(list)
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.List() | ast.Tuple() as words):
                lists[name].append(words)
            case ast.Call(func=ast.Attribute(attr="which"), args=[first, *_]):
                yield node.lineno, _text(first)
            case _:
                pass
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=owner), attr=start), args=[first, *_]
            ) if f"{owner}.{start}" in STARTS:
                yield from ((node.lineno, _text(word)) for word in _first_words(first, lists))
            case ast.Call(func=ast.Name(id=start), args=[first, *_]) if start in STARTS:
                yield from ((node.lineno, _text(word)) for word in _first_words(first, lists))
            case _:
                pass


def _first_words(argument: ast.expr, lists: Lists) -> Iterator[ast.expr]:
    """Yield the first word of a command: of the list itself, or of those that its name is for."""
    match argument:
        case ast.List(elts=[first, *_]) | ast.Tuple(elts=[first, *_]):
            yield from _first_words(first, lists)
        case ast.Starred(value=value):
            yield from _first_words(value, lists)
        case ast.Name(id=name):
            for words in lists.get(name, ()):
                yield from words.elts[:1]
        case _:
            yield argument


def found() -> dict[str, list[str]]:
    """Return the places that start each program, by its name."""
    places = defaultdict(list)
    for path in _files("*.py"):
        for line, name in programs_of_python(ast.parse(path.read_text(encoding="utf-8"))):
            places[name.rpartition("/")[2]].append(f"{path.relative_to(ROOT)}:{line}")
    for path in _files("*.py", "*.sh", ".ci/run", "Makefile"):
        text = path.read_text(encoding="utf-8")
        for name in LOOKED_FOR.findall(text):
            places[name].append(str(path.relative_to(ROOT)))
    for path in _files("plans/templates/ci/*.j2"):
        text = COMMENTS.sub(" ", path.read_text(encoding="utf-8"))
        for words in COMMAND.findall(text):
            places["".join(words)].append(str(path.relative_to(ROOT)))
    return {name: where for name, where in places.items() if NAME.fullmatch(name)}


def test_every_program_is_on_every_debian_or_in_a_list_of_packages() -> None:
    """`rsync` was started by the product and a test, `jq` by jobs; nothing installed them."""
    known = ON_EVERY_DEBIAN | BARE | IN_ENVIRONMENTS | OPTIONAL | SHELL | {*PACKAGE}
    assert {name: places for name, places in found().items() if name not in known} == {}


def test_the_search_finds_what_is_started_in_every_way() -> None:
    programs = found()
    assert {"rsync", "systemd-analyze", "ip", "haproxy", "curl", "jq", "npm", "ps", "ssh"} <= {
        *programs
    }
    assert "runtime/engines/remote/copies.py" in {
        place.partition(":")[0] for place in programs["rsync"]
    }


@pytest.mark.parametrize("program", PACKAGE)
def test_a_list_of_packages_has_the_package(program: str) -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in LISTS]
    package = re.compile(rf"(?<![\w-]){re.escape(PACKAGE[program])}(?![\w-])")
    assert any(package.search(text) for text in texts)


def test_the_programs_that_tests_need_are_those_that_make_installs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installed = re.search(r"^PROGRAMS := (.*)$", makefile, re.MULTILINE)
    assert installed is not None
    assert sorted({*PACKAGES.values()}) == installed[1].split()


def test_a_test_that_needs_a_part_names_one_that_is_known() -> None:
    named = re.compile(r"mark\.needs\(([^)]*)\)")
    texts = "".join(path.read_text(encoding="utf-8") for path in _files("tests/*.py"))
    parts = {part for words in named.findall(texts) for part in re.findall(r'"([\w-]+)"', words)}
    assert "rsync" in parts
    assert parts <= {*NEEDS}


def test_targets_of_remedies_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {need.remedy.split()[1] for need in NEEDS.values()}
    assert [name for name in targets if f"\n{name}:" not in makefile] == []
