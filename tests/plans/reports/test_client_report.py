"""A rollout's report: what happened, in order, and nothing that is not the client's."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from fleet.gates.decide import Verdict
from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.rows import BAD, Tally, Window, late
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.policies import UNITS, GateSpec
from fleet.resources import Route
from plans.explain.rollout import rollout_document
from plans.reports.client_report import document, render_html, render_markdown

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
NASTY = "<script>alert(1)</script> | @everyone http://10.0.0.7:8000/x /srv/store/ab"


def entries(*records: tuple[str, dict[str, Any]]) -> list[Entry]:
    return [
        Entry(
            seq,
            NOON + timedelta(seconds=seq),
            event_of(kind, data),
            "run",
            "eve@host7",
            1,
            "",
            f"h{seq}",
        )
        for seq, (kind, data) in enumerate(records, 1)
    ]


def routed(percent: int) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    shares = [
        {"adapter": NEW, "percent": percent, "servers": ["s1"]},
        {"adapter": OLD, "percent": 100 - percent, "servers": ["s1"]},
    ]
    route = {"kind": "route", "alias": "acme-support", "salt": "s", "shares": shares}
    about = {"step": "set route", "address": "route/acme-support"}
    return (
        ("step_started", {**about, "operation": {"verb": "set_route", "route": route}}),
        ("step_finished", {**about, "how": "done"}),
    )


def judged(reason: str = "") -> tuple[str, dict[str, Any]]:
    found = judge_paired(GateSpec("answers", "accuracy_drop", 5, "pp"), [1.0] * 200, [1.0] * 200)
    finding = found.plain() | ({"reason": reason} if reason else {})
    about = {"alias": "acme-support", "adapter": NEW, "stable": OLD, "percent": 0}
    return "gate_judged", {**about, "gate": "answers", "finding": finding}


def rolled_back(reason: str) -> tuple[str, dict[str, Any]]:
    return "rolled_back", {
        "alias": "acme-support", "adapter": NEW, "to": OLD, "before": {NEW: 10, OLD: 90},
        "reason": reason, "gate": "form", "seconds": 0.041,
    }  # fmt: skip


def made(*records: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return document(entries(*records), "acme-support", NEW, NOON + timedelta(hours=1))


def test_the_stages_and_the_way_back_are_told_in_order() -> None:
    other = ("rolled_back", {"alias": "birch-units", "adapter": "x", "to": "y", "before": {}})
    report = made(*routed(0), judged(), *routed(10), other, rolled_back("form: 5 of 5 bad"))
    assert [each["text"] for each in report["events"]] == [
        f"gate answers: PASS, {report['gates'][0]['reason']}",
        "2.2.0 answers 10 % of the requests",
        "2.1.0 has all requests again, 0.04 s: gate form failed",
    ]
    assert (report["outcome"], report["before"], report["share"]) == ("rolled back", "2.1.0", 0)
    assert report["proof"] == {"entry": 3, "hash": "h3"}


def test_a_pause_is_told_with_its_end_and_without_who_said_it() -> None:
    said = {"alias": "acme-support", "adapter": NEW, "mark": "pause", "reason": "their launch"}
    until = (NOON + timedelta(hours=4)).isoformat()
    report = made(*routed(10), ("rollout_marked", {**said, "until": until}))
    assert report["events"][-1]["text"] == (
        f"2.2.0 was paused until {NOON + timedelta(hours=4):%Y-%m-%d %H:%M:%S} UTC"
    )


def test_outcomes() -> None:
    assert made()["outcome"] == "not begun"
    assert made(*routed(10))["outcome"] == "under way at 10 %"
    assert made(*routed(10), *routed(100))["outcome"] == "complete"
    again = ("released", {"alias": "acme-support", "adapter": None})
    assert made(*routed(10), rolled_back("x"), again)["outcome"] == "not begun"


def shared(**percents: int) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """Route by version, newest first: `shared(v230=10, v220=90)`."""
    begun, done = routed(0)
    shares = [
        {"adapter": f"acme-support-tiny-v{'.'.join(each[1:])}", "percent": part, "servers": ["s1"]}
        for each, part in percents.items()
    ]
    begun[1]["operation"]["route"] = {**begun[1]["operation"]["route"], "shares": shares}
    return begun, done


def forward(to: str, before: str) -> tuple[str, dict[str, Any]]:
    about = {"alias": "acme-support", "to": to, "before": {before: 100}, "reason": "wrong alias"}
    return "rolled_back", {**about, "forward": True, "seconds": 0.05}


def test_who_answers_now_is_followed_past_the_end() -> None:
    third = NEW.replace("2.2.0", "2.3.0")
    full = (*routed(10), *routed(100))
    again = made(*full, rolled_back("oops"), forward(NEW, OLD))
    assert (again["outcome"], again["share"]) == ("serves again", 100)
    assert again["events"][-1]["text"] == "2.2.0 has all requests again, 0.05 s"
    rising = made(*full, *shared(v230=10, v220=90, v210=0))
    assert rising["outcome"] == "complete; still answers 90 %, 2.3.0 takes over"
    gone = made(*full, *shared(v230=10, v220=90), *shared(v230=100, v220=0, v210=0))
    assert (gone["outcome"], gone["share"]) == ("replaced by 2.3.0", 0)
    assert made(*full, forward(third, NEW))["outcome"] == "replaced by 2.3.0"
    back = {"alias": "acme-support", "adapter": third, "to": NEW, "before": {}, "seconds": 0.05}
    assert made(*full, *shared(v230=100, v220=0), ("rolled_back", back))["outcome"] == (
        "serves again"
    )
    assert made(*full, *shared(v230=10, v220=90), ("rolled_back", back))["outcome"] == "complete"
    assert made(*full, *shared(v220=0, v210=100))["outcome"] == "rolled back"
    undone = made(*full, rolled_back("oops"), *shared(v220=10, v210=90))
    assert undone["outcome"] == "under way at 10 %"


def test_where_nothing_was_counted_nothing_is_said_but_that() -> None:
    kind, data = judged()
    stderr = "corvid-dates-tiny-v1.0.0 exit 3: Traceback, anna@corvid.example asked for a refund"
    open_ = judge_paired(GateSpec("answers", "accuracy_drop", 5, "pp"), (), ()).plain()
    report = made((kind, {**data, "finding": open_ | {"reason": stderr}}), judged(stderr))
    assert [each["text"] for each in report["events"]][:1] == [
        "gate answers: INCONCLUSIVE, could not be judged"
    ]
    data |= {"digests": {}, "since": NOON.isoformat()}
    past = fold_entries(
        entries(*routed(10), (kind, {**data, "finding": open_ | {"reason": stderr}}))
    )
    (route,) = (each for each in past.established.values() if isinstance(each, Route))
    assert rollout_document(past, route)["gates"][0]["reason"] == stderr
    assert rollout_document(past, route, client=True)["gates"][0]["reason"] == "could not be judged"
    assert not any(word in f"{report}" for word in ("corvid", "anna", "Traceback"))


def test_the_golden_table_is_of_each_gate_and_its_latest_verdict() -> None:
    def asked(run: str, adapter: str, accuracy: float) -> tuple[str, dict[str, Any]]:
        summary = {"n": 200, "accuracy": accuracy}
        about = {"alias": "acme-support", "purpose": "gate", "summary": summary}
        return "eval_finished", {**about, "run": run, "adapter": adapter}

    def by(gate: str, *runs: str) -> tuple[str, dict[str, Any]]:
        kind, data = judged()
        return kind, {**data, "gate": gate, "runs": list(runs)}

    report = made(
        asked("r1", OLD, 0.9), asked("r2", NEW, 0.7), by("strict", "r1", "r2"),
        asked("r3", OLD, 1.0), asked("r4", NEW, 1.0), by("lenient", "r3", "r4"),
        asked("r5", NEW, 0.8), by("strict", "r1", "r5"), asked("r6", NEW, 0.99),
    )  # fmt: skip
    table = [(each["gate"], each["version"], each["accuracy"]) for each in report["evaluations"]]
    assert table == [
        ("strict", "2.1.0", 0.9),
        ("strict", "2.2.0", 0.8),
        ("lenient", "2.1.0", 1.0),
        ("lenient", "2.2.0", 1.0),
    ]
    assert "| strict | 2.2.0 | 200 | 80.0 % |" in render_markdown(report)
    assert "<td>strict</td><td>2.2.0</td>" in render_html(report)


def live(metric: str, verdict: Verdict, *missing: str) -> tuple[str, dict[str, Any]]:
    bad = 90 if verdict is Verdict.FAIL else 0
    kinds = (BAD.get(metric, "errors"), late("form"))
    mine = Tally(771, dict.fromkeys(kinds, bad), dict.fromkeys(kinds, 771))
    other = Tally(8999, of=dict.fromkeys(kinds, 8999))
    seen = [Window(NOON, NOON + timedelta(hours=1), mine, other)]
    found = judge_live(GateSpec("form", metric, 2, UNITS[metric][0]), seen, missing=missing)
    assert found.verdict is verdict
    about = {"alias": "acme-support", "adapter": NEW, "stable": OLD, "percent": 10}
    return "gate_judged", {**about, "gate": "form", "finding": found.plain()}


def test_nothing_is_told_of_gateways_or_of_what_others_asked() -> None:
    lacking = "requests of gateway edge-paris-2 are lacking: it is down; nobody knows why"
    open_one = made(live("error_rate_rise", Verdict.INCONCLUSIVE, lacking))
    assert open_one["gates"][0]["reason"].startswith("0 of 771 bad, the old version 0 of 8999")
    assert open_one["gates"][0]["reason"].endswith(": not all requests are known yet")
    failed = made(
        *routed(10), live("error_rate_rise", Verdict.FAIL, lacking), rolled_back(f"bad; {lacking}")
    )
    assert "90 of 771 bad" in failed["gates"][0]["reason"]
    assert failed["events"][-1]["text"].endswith(f"0.04 s: form: {failed['gates'][0]['reason']}")
    around = made(
        *routed(10), live("neighbour_ratio", Verdict.FAIL, lacking), rolled_back("form: 90 of 771")
    )
    assert around["gates"][0]["reason"] == ""
    assert [each["text"] for each in around["events"][1:]] == [
        "gate form: FAIL",
        "2.1.0 has all requests again, 0.04 s: gate form failed",
    ]
    assert not any(word in f"{open_one}{failed}" for word in ("paris", "gateway"))
    assert not any(word in f"{around}" for word in ("771", "8999", "paris", "gateway"))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 (the base's)
        self.seen.add(tag)


def test_nothing_of_machines_people_or_strangers_markup_gets_into_it() -> None:
    kind, data = judged(NASTY)
    report = made(*routed(10), (kind, {**data, "gate": NASTY}), rolled_back(NASTY))
    markdown, page = render_markdown(report), render_html(report)
    assert "eve@host7" not in markdown + page
    assert "s1" not in markdown + page
    for secret in ("10.0.0.7", "/srv/store"):
        assert secret not in markdown + page
    assert "<script" not in markdown
    assert "@everyone" not in markdown
    tags = _Tags()
    tags.feed(page)
    assert tags.seen.isdisjoint({"script", "link", "img", "iframe"})
    assert "&lt;script&gt;" in page
