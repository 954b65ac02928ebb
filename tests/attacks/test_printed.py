# ruff: noqa: E501 (tables of texts)
"""Texts from outside that would act where they are printed: each is shown and obeyed by nothing."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import Diagnostic, Position
from fleet.plan import Plan
from fleet.resources import Route, Share
from fleetctl.output import HarmlessStream
from plans.compile.envoy import Credential, RoutePlace, Routing, files, whole
from plans.diagnostics import render_github, render_text
from plans.render import RENDERERS
from plans.render.graph import FORMATS
from plans.reports.notifications import fault
from plans.visible import fenced, harmless, one_line, prose, quiet, visible
from tests.attacks.conftest import call
from tests.plans.conftest import _canary


@pytest.fixture
def plan() -> Plan:
    """Return a plan of a canary."""
    return _canary()


UNSEEN = [
    *"\x00\x07\x08\x0b\x0c\r\x1b\x1f\x7f\x80\x85\x9b\x9d\xad",
    *"\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e",
    *"\u2060\u2066\u2067\u2068\u2069\ufeff\ufff9\ufffb\u3164\U000e0001\U000e0041\U000e007f\ud800",
]
COMMANDS = (
    "::error::x", "  ::set-output name=a::b", "\t::add-mask::x", "a\n::stop-commands::t",
    "\xa0::error::x", "##[error]x", "a ##[set-env name=PATH]x", "##vso[task.setvariable]x",
    "a ##vso[task.complete]", "##teamcity[message]", "section_start:0:x\r\x1b[0K",
    "x\nsection_end:1:y", "\r::error::x", "\x1b[1m::error::x", "\u2028::error::x",
)  # fmt: skip
TERMINAL = (
    "\x1b[2J", "\x1b]8;;http://evil.test\x1b\\text\x1b]8;;\x1b\\", "\x1b]0;title\x07", "\x9b31m",
    "\x1b[8mhidden\x1b[0m", "a\rb", "a\x08b", "\x1bc", "\x1bP+q\x1b\\", "\x1b[31mNo changes.\x1b[0m",
)  # fmt: skip


@pytest.mark.parametrize("character", UNSEEN)
def test_what_is_not_seen_is_marked(character: str) -> None:
    shown = visible(f"a{character}b")
    assert character not in shown
    assert json.loads(f'"{shown}"') == f"a{character}b"
    assert visible(shown) == shown


@pytest.mark.parametrize("text", ["Grüße, 你好 🎉", "a\tb", "line\nline", "العربية", "❤\ufe0f"])
def test_texts_of_people_stay(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("text", COMMANDS)
def test_no_runner_of_a_ci_finds_a_command(text: str) -> None:
    shown = harmless(text)
    for line in re.split(r"[\r\n\u2028\u2029\x85]", shown):
        assert not line.strip().startswith("::")
        assert not re.search(r"##\w*\[|section_(start|end):\d", line)
    assert harmless(shown) == shown


@pytest.mark.parametrize("text", [*COMMANDS, *TERMINAL, *UNSEEN])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_stream_writes_nothing_that_acts(text: str, *, is_terminal: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    below = Terminal()
    HarmlessStream(below).write(f"{text}\n")
    written = re.sub(r"\x1b\[3[1-6]m[A-Za-z ]{1,24}:?\x1b\[0m", "", below.getvalue())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", written)
    assert not re.search(r"(?m)^\s*::|##\w*\[", written)


def test_json_stays_exact_json() -> None:
    document = {"reason": "\n".join([*COMMANDS, *TERMINAL, *UNSEEN[:-1]])}
    for text in (json.dumps(document, ensure_ascii=False), json.dumps(document, indent=2)):
        assert json.loads(harmless(text)) == document


MARKDOWN = (
    "@team", "(@team)", "@org/team now", "`` `@team", "``a```@team", "`a``@team`", "#123", "a/b#123",
    "GH-1", "www.evil.test", "![x](y)", "[a](b)", "<img src=x>", "<!-- x -->", "a | b", "***",
    "https://evil.test/x", "~~~", "```", "a\n\n# heading", "- item", "1. item", "===", "&lt;b&gt;",
    "\\`@team\\`", "`@team", "``x` @team", "`` ` @team ``` x `", "- `@team`",
)  # fmt: skip


def _outside_code(markdown: str) -> str:
    """Return what CommonMark reads as text: without spans of code."""
    pieces, text, index = re.split("(`+)", markdown), "", 0
    while index < len(pieces):
        text += pieces[index]
        run = pieces[index + 1] if index + 1 < len(pieces) else ""
        ends = (at for at in range(index + 3, len(pieces), 2) if pieces[at] == run)
        end = next(ends, None) if run else None
        text += "" if end is None else "\x00"
        index = index + 2 if end is None else end + 1
    return text


@pytest.mark.parametrize("text", MARKDOWN)
def test_prose_mentions_and_links_nothing(text: str) -> None:
    live = _outside_code(prose(text))
    assert not re.search(r"@\w|&#64;\w|#\d|\bGH-\d|www\.\w|https?:|(?<!\\)\]\(|(?<!\\)<", live)
    assert not re.match(r"[-+*]\s|\d+[.)]\s|[-=]+$|#+\s", live)
    assert "\n" not in prose(text)
    assert not re.search(r"(?<!\\)\|", prose(text))


@pytest.mark.parametrize("text", ["```", "````x", "~~~", "a\n```\n# b", "\r```", "`" * 50])
def test_nothing_ends_a_fence(text: str) -> None:
    fence, *body, end = fenced([text], "text")
    assert all(not line.startswith(end) for line in body)
    assert fence.startswith(end)


@pytest.mark.parametrize("form", sorted(RENDERERS))
@pytest.mark.parametrize("text", [*COMMANDS[:8], *TERMINAL[:6], *MARKDOWN[:12], *UNSEEN[:20]])
def test_no_plan_acts_in_any_format(plan: Plan, form: str, text: str) -> None:
    change = replace(plan.changes[0], why=f"a {text} b")
    hostile = replace(plan, changes=(change,))
    shown = harmless(RENDERERS[form](hostile))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", shown)
    assert not re.search(r"(?m)^\s*::|##\w*\[", shown)
    if form == "html":
        assert "default-src 'none'" in shown
        assert "<img src=x>" not in shown
    if form == "json":
        assert json.loads(shown) == json.loads(RENDERERS["json"](hostile))


@pytest.mark.parametrize("draw", [FORMATS["dot"], FORMATS["mermaid"]])
@pytest.mark.parametrize("name", ['a"]; x', "a\nb --> c", "a\\", "<b>", "#quot;]", "`a`"])
def test_no_name_leaves_its_box(plan: Plan, draw: Callable[[Plan], str], name: str) -> None:
    step = replace(plan.steps[0], lane=name, needs=())
    boxed = replace(plan, steps=(step,))
    plain = replace(plan, steps=(replace(step, lane="lane"),))
    assert draw(boxed).count("\n") == draw(plain).count("\n")


HOSTILE = Diagnostic(
    "FC1001", "S\x1b[2J", "a\x1b]0;x\x07\u202eb", Position("a\x1b[2J.yaml", 1, 1), "k: \x1b[31m\u202e",
    hint="\r::error::x", command="rm\x08 -rf",
)  # fmt: skip


def test_an_error_that_quotes_a_hostile_line_is_harmless() -> None:
    for shown in (harmless(render_text([HOSTILE])), render_github([HOSTILE])):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert render_github([HOSTILE]).count("\n") == 1


@pytest.mark.parametrize(
    "text", ["<!channel>", "<@U123>", "<#C1|x>", "<http://e.test|safe>", "@everyone", "@here"]
)
def test_a_notice_calls_nobody(text: str) -> None:
    assert not re.search(r"<[!@#]|<https?:|@(everyone|here|channel)", quiet(text))


def test_an_entry_of_the_history_is_a_single_line() -> None:
    assert one_line("a\nb\r\nc\u2028d\x85e\tf").count("\n") == 0


def _formats(value: Any) -> Iterator[str]:
    """Yield the texts in which Envoy replaces what stands between percent signs."""
    if isinstance(value, dict):
        found = value.get("text_format_source", value.get("format_string"))
        yield json.dumps([found, value.get("header"), value.get("json_format")])
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _formats(part)


@pytest.mark.parametrize("text", ["%REQ(authorization)%", '"}], "x": "', "\\1", "a\n::error::x"])
def test_envoy_replaces_nothing_in_a_text_from_outside(text: str) -> None:
    routes = {"a-b": Route("a-b", (Share("a-b-tiny-v1.0.0", 100, ("s",)),), text)}
    urls = {"s": "http://127.0.0.1:8000/" + re.sub(r"[\s?#]", "", text)}
    routing = Routing(1, "0" * 64, urls, routes, (Credential("a", text),))
    place = RoutePlace("main", "127.0.0.1:0", f"/f/{text}", f"/f/{text}/admin.sock")
    for written in (*files(routing, place).values(), whole(routing, place)):
        document = json.loads(written)
        assert json.loads(json.dumps(document)) == document
        assert text not in "".join(_formats(document))


TEMPLATES = (
    "{% for i in range(10**9) %}x{% endfor %}", "{{ 'a' * 10**9 }}", "{{ 'a'|center(10**9) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ 9 ** 9 ** 9 }}", "{{ '%999999999d' % 1 }}", "{{ '%999999999d'|format(1) }}",
    "{{ '{:999999999}'.format(1) }}", "{{ 'a'.ljust(10**9) }}", "{{ 'a'|indent(10**9) }}",
    "{% set x = 'aa' %}{% set x = x ~ x %}", "{% set x = [it, it]|join %}{{ x }}",
    "{% set x = it.alias + it.alias %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ lipsum(n=10**6) }}", "{{ cycler }}{{ cycler(1) }}", "{% include 'x' %}", "{{ namespace(a=1) }}",
    "{% for a in 'abc' %}x{% endfor %}", "{% for a in [1, 2] %}x{% endfor %}",
    "{% for a in it %}{% for b in it %}{% for c in it %}x{% endfor %}{% endfor %}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "x" * 20_000, "{{ it.__class__ }}",
    "{{ ''.__class__.__mro__ }}", "{{ it|map('center', 10**9)|list }}",
)  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_a_template_that_could_take_long_is_refused(template: str) -> None:
    found = fault(template, "operators")
    assert found is not None
    assert len(found[1]) < 1000


def test_an_error_of_its_own_is_told_without_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("hunter2-secret")

    monkeypatch.setattr("fleetctl.wiring.open_workspace", fail)
    done = call(tmp_path, "validate")
    assert "FC1311" in done.text
    assert "KeyError at test_printed.py:" in done.text
    assert "hunter2" not in done.text
    assert "Traceback" not in done.text
