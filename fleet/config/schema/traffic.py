"""Declares the treatment of requests, and notices: limits, deadlines, shadows, formats."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from fleet.config.scalars.quantities import Count, Delay, Duration, Percent, shown, wrong
from fleet.config.scalars.texts import Argument, Id, Listen, SecretRef, Semver, Url, Webhook, Word
from fleet.config.schema.section import Section
from fleet.response_format import FormatKind, flaw
from fleet.response_format import ResponseFormat as Form
from fleet.spec import NOTIFY_EVENTS, USUAL_FOR_CLIENTS, ClientEvent, NotifyEvent
from fleet.traffic import Budget


class Mail(Section):
    """The server and the addresses of mails; beyond this machine over TLS alone."""

    server: Listen
    """Address of the server, such as `mail.example.com:465`; on other ports STARTTLS is used."""
    sender: Argument
    """Address of the sender."""
    to: tuple[Argument, ...]
    """Addresses of the receivers."""
    login: SecretRef | None = None
    """Where `user:password` is kept: `env:NAME`, `file:path`. Default: the server asks for none."""


class Receivers(Section):
    """The receivers of notices.

    A notice is posted as JSON with the sentence under `text`, which chat systems show, and the
    facts beside it. A lasting event is told once. A notice that cannot be delivered stops nothing.
    """

    webhook: Webhook | None = None
    """URL of a receiver, or where the URL is kept: `env:NAME`, `file:path`."""
    mail: Mail | None = None
    """Receivers of notices as mails."""
    sinks: dict[Id, Word] = {}
    """Addresses by sink that a package in `extensions` adds, in the words of that package."""
    template: Word | None = None
    """A Jinja template of the text, relative to the project. Default: a template of fleetctl's own.

    The facts are under `it`, such as `it.event` and `it.alias`. `fleetctl validate` tries it.
    """


class Notify(Receivers):
    """The receivers of notices, and the events.

    `rolled_back`, by an operator or a gate. `gate_failed`: a version was stopped before it got
    traffic. `undecided`: a rollout waits for people. `drifted`: a scheduled evaluation is worse
    than the result after training. `drill_failed`. `retraining_overdue`. `retraining_planned`: due
    soon, or claimed by a person. `rollout_started`, `rollout_finished`: a new version gets its
    first traffic, has all of it. `ledger_away`: the ledger cannot be read, so that gates only take
    traffic back; `alert`, `alert_resolved`, from `fleetctl watch`: a client is told of neither.
    """

    events: tuple[NotifyEvent, ...] = NOTIFY_EVENTS
    """Events of which notices are sent. Default: all."""
    alertmanager: Url | None = None
    """URL of an Alertmanager that `fleetctl watch` hands the alerts that stand to."""


class ClientNotify(Receivers):
    """The receivers of a client's notices, which name no server, no person and no other client."""

    events: tuple[ClientEvent, ...] = USUAL_FOR_CLIENTS
    """Events of which notices are sent. Default: `rolled_back`."""


class Limits(Section):
    """Upper bounds of requests; above a bound a client gets a 429 with the time to come back.

    With several gateways, each gateway allows its part; bounds of a month hold for all together.
    """

    concurrency: Count | None = None
    """Requests at work at the same time. Unit: requests. Default: no limit."""
    requests_per_minute: Count | None = None
    """Requests per minute, spread evenly: at most ten seconds' worth at once.

    Unit: requests per minute. Default: no limit.
    """
    tokens_per_minute: Count | None = None
    """Tokens per minute, of prompts and answers, charged after an answer.

    Unit: tokens per minute. Default: no limit.
    """
    requests_per_month: Count | None = None
    """Answered requests in a calendar month of `costs.timezone`, of all gateways together.

    Unit: requests per month. Default: no limit.
    """
    tokens_per_month: Count | None = None
    """Tokens of prompts and answers in a calendar month of `costs.timezone`, as they are billed.

    Unit: tokens per month. Default: no limit.
    """
    budget: Budget | None = None
    """Consequence of a month's bound that is reached, beside the alerts of `watch` at 80 and 100 %.

    `soft`: none. `hard`: requests get 429 until the month ends. Default: `soft`.
    """
    queue: Delay | None = None
    """Longest wait of a request for its turn; then the request is refused.

    Default: `1s` where `concurrency` is used up, the tier's `first_byte` where servers are busy.
    """


class Timeouts(Section):
    """Upper bounds of the time of answers."""

    first_byte: Delay | None = None
    """Longest time until an answer begins, or a whole answer without stream.

    Default: `60s`; without stream ten times the `slo` that the tier promises, where it does.
    """
    idle: Delay | None = None
    """Longest pause inside a stream. Default: `60s`."""
    total: Delay | None = None
    """Longest time of a whole answer. Default: `3600s`."""


class Shadow(Section):
    """A version that gets copies of live requests; its answers are thrown away, never billed."""

    version: Semver
    """The version, quoted. The version is loaded where needed, and gets no traffic of clients."""
    percent: Percent = 100
    """Share of the requests that are copied."""
    concurrency: Count = 2
    """Copies at work at the same time in a gateway; above this number no copies are made.

    Unit: requests.
    """


class Capture(Section):
    """Capture of requests and answers as text, to which the client has agreed."""

    consent: Word
    """The consent: a name and a day, such as `Ann Lee of Acme, 2026-11-20, by mail`."""
    keep: Duration = timedelta(days=30)
    """Time after which captured text is deleted; begun days count whole."""
    share: Percent = 100
    """Share of the requests that are captured."""


_HINT = (
    "Write `json`, or one of `{json_schema: FILE}`, `{regex: 'A|B'}`, `{labels: [billing, other]}`."
)


def _format(value: Any) -> Form:
    if value == "json":
        return Form(FormatKind.JSON)
    kind, given = next(iter(value.items())) if isinstance(value, dict) and value else ("", None)
    if kind not in set(FormatKind) - {FormatKind.JSON} or len(value) != 1:
        raise wrong("FC1112", f"{shown(value)} is not a format of answers.", _HINT)
    texts = given if kind == FormatKind.LABELS and isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text.strip() == text != "" for text in texts):
        detail = f"`{kind}` of a format must be text without spaces around it, not {shown(given)}."
        raise wrong("FC1101", detail, _HINT)
    if kind == FormatKind.LABELS:
        return Form(FormatKind.LABELS, labels=tuple(sorted({*texts})))
    form = Form(FormatKind(kind), str(given))
    if kind == FormatKind.REGEX and (problem := flaw(form)):
        raise wrong("FC1229", problem, "Write it as for RE2: no look-around, no back references.")
    return form


def _plain(value: Form) -> Any:
    if value.kind is FormatKind.JSON:
        return "json"
    return {value.kind.value: list(value.labels) if value.labels else value.text}


_TEXT = {"type": "string", "minLength": 1}
_ONE = {
    "json_schema": _TEXT,
    "regex": _TEXT,
    "labels": {"type": "array", "items": _TEXT, "minItems": 1},
}
Format = Annotated[
    Form,
    PlainValidator(_format),
    PlainSerializer(_plain),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "json"},
                *(
                    {"type": "object", "required": [name], "properties": {name: of},
                     "additionalProperties": False}
                    for name, of in _ONE.items()
                ),
            ]
        }
    ),
]  # fmt: skip
"""The form that answers must have; the text of a `json_schema` is the file's name."""
