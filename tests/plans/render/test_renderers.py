import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest

from fleet.names import Address
from fleet.plan import Action, Change, Plan, PlanNote, Reason
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, Share
from plans.render import ALL_FORMATS, RENDERERS, markdown, text
from plans.visible import prose, scrubbed

RESOURCES: dict[str, Resource] = {
    "server": Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f"),
    "adapter": LoadedAdapter("acme-support-tiny-v2.1.0", "tiny-laptop-cpu0", None, "/srv/x"),
    "route": Route("acme-support", (Share("acme-support-tiny-v2.1.0", 100, ("s",)),), "salt"),
    "key": Key("acme", "prod", "file:/home/ana/keys/prod", "0a1b2c3d4e5f"),
}
EVERYTHING = tuple(
    Change(
        resource.address,
        action,
        None if action is Action.CREATE else resource,
        None if action is Action.DELETE else resource,
        reason,
        f"Because of {reason.value}.",
        "clients/acme.yaml:9:18",
        (("field", "1", "2"),),
    )
    for resource, action, reason in product(RESOURCES.values(), Action, Reason)
)
HOSTILE = "<script>alert(1)</script> @everyone **x** [a](http://evil.example/?q=1) | `code` ```"


@pytest.mark.parametrize("form", sorted(RENDERERS))
def test_every_action_on_every_kind_for_every_reason_is_shown(canary: Plan, form: str) -> None:
    for start in range(0, len(EVERYTHING), 40):
        part = EVERYTHING[start : start + 40]
        shown = RENDERERS[form](replace(canary, changes=part))
        for each in part:
            assert each.address in shown
            assert each.reason.value in shown


@pytest.mark.parametrize(
    ("action", "counts"),
    [
        (Action.CREATE, (2, 0, 0)),
        (Action.UPDATE, (0, 2, 0)),
        (Action.MOVE, (0, 2, 0)),
        (Action.DELETE, (0, 0, 2)),
        (Action.REPLACE, (2, 0, 2)),
    ],
)
def test_the_report_for_gitlab_counts_as_terraform_does(
    canary: Plan, action: Action, counts: tuple[int, int, int]
) -> None:
    changes = tuple(change for change in EVERYTHING if change.action is action)[:2]
    shown = json.loads(ALL_FORMATS["gitlab"](replace(canary, changes=changes)))
    assert shown == dict(zip(("create", "update", "delete"), counts, strict=True))


@pytest.mark.parametrize("form", sorted(RENDERERS))
def test_a_rendering_is_the_same_twice_and_ends_with_one_newline(canary: Plan, form: str) -> None:
    shown = RENDERERS[form](canary)
    assert shown == RENDERERS[form](canary)
    assert shown.endswith("\n")
    assert not shown.endswith("\n\n")
    assert "None" not in shown


@pytest.mark.parametrize("form", sorted(RENDERERS))
@pytest.mark.parametrize("missing", ["capacity", "gates", "impacts", "untouched_clients", "steps"])
def test_what_there_is_none_of_leaves_no_empty_heading(
    canary: Plan, form: str, missing: str
) -> None:
    shown = RENDERERS[form](replace(canary, **{missing: ()}))  # type: ignore[arg-type]
    assert "\n\n\n" not in shown
    assert "<tbody>\n</tbody>" not in shown


def test_no_changes_is_one_line(converged: Plan) -> None:
    assert text.render(converged) == (
        "No changes. The live fleet matches its declaration (13 resources).\n"
    )
    assert "No changes" in markdown.render(converged)


def test_no_changes_with_something_unknown_does_not_claim_that_all_is_well(converged: Plan) -> None:
    shown = text.render(replace(converged, unknown=(PlanNote("no answer in 3 s", "server/a"),)))
    assert shown.startswith("No changes. ")
    assert "matches" not in shown
    assert "server/a: no answer in 3 s" in shown


def test_text_is_coloured_only_when_asked(canary: Plan) -> None:
    assert "\x1b" not in text.render(canary)
    coloured = text.render(canary, colour=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text.render(canary)
    assert coloured != text.render(canary)


def test_the_impact_comes_before_capacity_and_capacity_before_the_changes(canary: Plan) -> None:
    for form in ("text", "md", "html"):
        shown = RENDERERS[form](canary)
        assert (
            shown.index("2.1.0 100 %")
            < shown.lower().index("slots before")
            < shown.index("adapter/acme-support-tiny-v2.2.0")
        )


def test_the_comment_begins_with_its_marker_and_the_verdict(canary: Plan) -> None:
    marker, verdict, *_ = markdown.render(canary).splitlines()
    assert marker == "<!-- fleetctl:plan fleet=quickstart v=1 -->"
    assert verdict == f"### 🟢 Safe to apply · `quickstart` · `{canary.id}`"


@pytest.mark.parametrize("clients", [20, 26, 60, 400, 3000])
def test_the_comment_stays_within_its_limit_and_whole(
    huge: Callable[[int], Plan], clients: int
) -> None:
    shown = markdown.render(huge(clients))
    assert len(shown.encode()) <= markdown.LIMIT
    assert shown.count("<details>") == shown.count("</details>")
    assert shown.count("```") % 2 == 0
    assert f"{clients} adapters to load, {clients} routes to create" in shown


def test_a_comment_that_cannot_hold_the_details_says_so(canary: Plan) -> None:
    warnings = tuple(PlanNote(f"{number}: {'why ' * 50}") for number in range(1000))
    shown = markdown.render(replace(canary, warnings=warnings))
    assert len(shown.encode()) <= markdown.LIMIT
    assert "Details left out by size." in shown
    assert "1000" in shown
    assert "| **acme-support**" in shown


def test_even_absurd_details_leave_the_verdict_within_the_limit(canary: Plan) -> None:
    impact = replace(canary.impacts[0], summary="very " * 20_000)
    shown = markdown.render(replace(canary, impacts=(impact,)))
    assert len(shown.encode()) <= markdown.LIMIT
    assert shown.splitlines()[1].startswith("### 🟢")


def test_more_than_fifty_changes_are_counted_by_client_and_server(
    huge: Callable[[int], Plan],
) -> None:
    plan = huge(26)
    short, long = text.render(plan), text.render(plan, every=True)
    assert "By client" in short
    assert "It is declared and does not exist." not in short
    assert long.count("It is declared and does not exist.") == 52
    assert (
        "26 clients (client0, client1, client10 and 23 more)   each 1 adapter to load, 1 route"
        in short
    )


def test_a_comment_shows_no_place_of_any_machine(canary: Plan) -> None:
    told = (
        "cannot connect to http://user:hunter2@10.0.0.5:8000/v1 (10.0.0.5:8000), "
        "see /home/ana/fleet/.fleetctl/log and ~/x/y or C:\\Users\\ana"
    )
    change = replace(canary.changes[0], why=told, details=(("path", "/opt/a/b", "/opt/c/d"),))
    notes = (PlanNote(told),)
    plan = replace(canary, changes=(change,), unknown=notes, warnings=notes, held=notes)
    shown = markdown.render(plan)
    for word in ("hunter2", "10.0.0.5", "/home", "ana/", ".fleetctl", "/opt", "Users", "~/x"):
        assert word not in shown
    assert "[clients/acme.yaml:9:18]" in shown


@pytest.mark.parametrize("kept", ["clients/acme.yaml:9:18", "1/3", "30/min", "2.1.0", "a->b"])
def test_what_is_no_place_of_a_machine_stays(kept: str) -> None:
    assert scrubbed(f"see {kept}, so") == f"see {kept}, so"


def test_markup_from_outside_is_shown_and_not_obeyed_in_a_comment() -> None:
    assert prose("<b> @ana *x* a|b") == "&lt;b&gt; `@`ana \\*x\\* a\\|b"
    assert prose("run `a|b <c>` now") == "run `a\\|b <c>` now"
    assert prose("a ` lone") == "a ' lone"


def test_a_fence_in_a_change_does_not_end_the_block(canary: Plan) -> None:
    change = replace(canary.changes[0], why=f"x\n```\n{HOSTILE}")
    shown = markdown.render(replace(canary, changes=(change,)))
    assert "\n```\n" not in shown
    assert shown.count("````") == 2


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_escapes_what_comes_from_outside_and_is_well_formed(canary: Plan) -> None:
    rogue = Change(
        Address(f"adapter/{HOSTILE}@tiny"),
        Action.DELETE,
        LoadedAdapter(HOSTILE, "tiny", None),
        None,
        Reason.REMOVED,
        HOSTILE,
        details=((HOSTILE, HOSTILE, HOSTILE),),
    )
    hostile = (PlanNote(HOSTILE),)
    impact = replace(canary.impacts[0], summary=HOSTILE, back_out=HOSTILE)
    shown = RENDERERS["html"](
        replace(canary, changes=(rogue,), impacts=(impact,), warnings=hostile, held=hostile)
    )
    tags = _Tags()
    tags.feed(shown)
    assert tags.open == []
    assert "script" not in tags.seen
    assert {"src", "href", "onerror", "onclick"} & set(tags.attributes) == set()
    assert "&lt;script&gt;" in shown


def test_the_page_needs_nothing_from_outside(canary: Plan) -> None:
    shown = RENDERERS["html"](canary)
    assert "http" not in shown.replace("http-equiv", "")
    assert "url(" not in shown
    assert "@import" not in shown
    assert "prefers-color-scheme: dark" in shown
    assert 'name="viewport"' in shown


def test_importing_the_package_alone_stays_cheap() -> None:
    code = "import sys, plans; print([m for m in ('jinja2', 'fleet.plan') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
