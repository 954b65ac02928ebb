"""Word notifications: for operators, and for a client with the facts of the client's alias only."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment

from fleet.alerting import OF_A_CLIENT
from fleet.history import Audience
from fleet.spec import NOTIFY_EVENTS, NotifyEvent
from plans.reports.alerts import alert_sentence
from plans.templating import rendered
from plans.visible import quiet

_WHEN = "2031-05-01T12:00:00+00:00"
_NAME = "acme-support-tiny-v2.2.0"
_ALERT: Mapping[str, Any] = {
    "rule": "slow", "subject": "acme-support", "value": 3.1, "limit": 1.6, "since": _WHEN,
    "command": "fleetctl why acme-support", "cause": None, "detail": "", "urgent": True,
    "servers": ["tiny-laptop-cpu0"], "phase": "firing", "silenced_by": "", "also": [],
}  # fmt: skip
SAMPLES: Mapping[NotifyEvent, Mapping[str, Any]] = {
    "rolled_back": {
        "fleet": "agency", "alias": "acme-support", "target": "acme-support-tiny-v2.1.0",
        "before": [[_NAME, 10], ["acme-support-tiny-v2.1.0", 90]], "held": [_NAME],
        "revision": 7, "decided": _WHEN, "seconds": 0.02, "acknowledged": ["main"],
        "smoke": {"passed": 5, "total": 5, "seconds": 0.4, "failures": [], "warnings": [],
                  "telling": 5},
        "smoke_ok_s": 0.5, "reason": "wrong refunds", "warnings": [], "failures": [],
        "from": "2.2.0", "to": "2.1.0", "cause": "gate errors", "complete": True,
    },
    "gate_failed": {"stable": "2.1.0", "gate": "golden", "reason": "a drop of 9 points"},
    "undecided": {"percent": 10, "reason": "a gate cannot tell"},
    "drifted": {
        "measure": "accuracy", "rule": "rolling", "standing": "retrain", "retrain": True,
        "reason": "surely worse",
    },
    "drill_failed": {"reasons": ["gateway main: no answer"]},
    "retraining_overdue": {"reason": "5 days over", "due": _WHEN, "claimed_by": ""},
    "retraining_planned": {"reason": "6 days left", "due": "2031-05-07", "claimed_by": ""},
    "rollout_started": {"stable": "2.1.0", "percent": 10},
    "rollout_finished": {"stable": "2.1.0", "percent": 100},
    "alert": {**_ALERT, "until": None},
    "alert_resolved": {**_ALERT, "until": _WHEN},
    "ledger_away": {"reason": "No answer within 10 s.", "as_of": _WHEN},
}  # fmt: skip
"""Example facts by event; templates are tried with them at validation."""
_COMMON = {
    "fleet": "agency", "alias": "acme-support", "version": "2.2.0", "adapter": _NAME, "at": _WHEN
}  # fmt: skip


def document(
    event: NotifyEvent, audience: Audience, facts: Mapping[str, Any], template: str = ""
) -> dict[str, Any]:
    """Return the document to post: the text and the facts that the audience may see.

    Facts are as in `SAMPLES`. A template is the source of a template of the project; empty: the
    template of fleetctl.

    Raises:
        ValueError: the template cannot be rendered; the text says why.
    """
    seen = facts if audience == "operators" else {name: facts[name] for name in OF_A_CLIENT[event]}
    seen = {"event": event, **seen}
    if event in {"alert", "alert_resolved"}:
        seen["sentence"] = alert_sentence(facts)
    return {"event": event, "text": quiet(_text(audience, seen, template)), **seen}


def fault(
    template: str, audience: Audience, events: Iterable[NotifyEvent] | None = None
) -> tuple[int, str] | None:
    """Return line and message of a template's fault, found by a trial; None: no fault.

    Without `events`, the template is tried with all events of the audience.
    Line 0: the syntax is right, and an event cannot be rendered.
    """
    try:
        _compiled(template)
    except TemplateSyntaxError as error:
        return error.lineno, str(error.message)
    every = NOTIFY_EVENTS if audience == "operators" else OF_A_CLIENT
    for event in every if events is None else events:
        try:
            whole = SAMPLES[event] if event == "rolled_back" else {**_COMMON, **SAMPLES[event]}
            document(event, audience, whole, template)
        except ValueError as error:
            return 0, f"of `{event}`: {error}"
    return None


def _compiled(source: str) -> Template:
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    try:
        check_work(environment.parse(source), source)
        return environment.from_string(source)
    except (RecursionError, SyntaxError, MemoryError):  # of the parser, or of Python's own
        raise TemplateSyntaxError("it is nested too deeply", 1) from None


def _text(audience: Audience, facts: Mapping[str, Any], template: str) -> str:
    # `from` is a word of Jinja's own, so the facts stand under a single name.
    if not template:
        return rendered(f"notice_{audience}.txt.j2", it=facts).strip()
    try:
        return _compiled(template).render(it=facts).strip()
    except (TemplateError, TypeError, ArithmeticError, ValueError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


LONGEST: Final = 16 << 10
"""Upper bound of a template's characters."""
_LOOPS: Final = 2
"""Upper bound of nested loops; facts have few items."""
_METHODS: Final = re.compile(
    "items|keys|values|get|startswith|endswith|upper|lower|title|strip|split"
)
_FILTERS: Final = re.compile(
    "abs|capitalize|count|d|default|e|escape|first|float|int|items|join|last|length|list|lower|map|max"
    "|min|reject|rejectattr|replace|reverse|round|select|selectattr|sort|string|sum|title|tojson"
    "|trim|truncate|unique|upper|urlencode|wordcount"
)
_GROWING: Final = (nodes.Concat, nodes.Add, nodes.List, nodes.Tuple, nodes.Dict)


def check_work(tree: nodes.Template, source: str) -> None:
    """Refuse a template whose work is not bounded by its own length and its facts.

    Raises:
        TemplateSyntaxError: with the line.
    """
    if len(source) > LONGEST:
        raise TemplateSyntaxError(f"it has more than {LONGEST} characters", 1)
    for node in tree.find_all(nodes.Node):
        if reason := _reason(node):
            raise TemplateSyntaxError(f"{reason} may take long", node.lineno)
    _check_loops(tree, 0)


def _reason(node: nodes.Node) -> str:  # noqa: PLR0911 (a case a kind)
    match node:
        case nodes.Mul() | nodes.Pow() | nodes.Mod():
            return "`*`, `**` or `%`"
        case nodes.Filter(name=name) if not _FILTERS.fullmatch(name):
            return f"the filter `{name}`"
        case nodes.Call(node=nodes.Getattr(attr=attr)) if _METHODS.fullmatch(attr):
            return ""
        case nodes.Call() | nodes.Macro() | nodes.CallBlock() | nodes.AssignBlock():
            return "a call or a macro"
        case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
            return "another template"
        case nodes.For(iter=nodes.Const() | nodes.List() | nodes.Tuple() | nodes.Concat()):
            return "a loop over a text or a list of the template's own"
        case nodes.Assign(node=value) | nodes.With(values=[value, *_]) if _grows(value):
            return "a variable made of others"
        case _:
            return ""


def _grows(value: nodes.Node) -> bool:
    joins = any(found.name in {"join", "replace"} for found in value.find_all(nodes.Filter))
    grown = (value, *value.find_all(nodes.Expr))
    return joins or any(isinstance(found, _GROWING) for found in grown)


def _check_loops(node: nodes.Node, depth: int) -> None:
    if depth > _LOOPS:
        raise TemplateSyntaxError(f"over {_LOOPS} nested loops may take long", node.lineno)
    for child in node.iter_child_nodes():
        _check_loops(child, depth + isinstance(child, nodes.For))
