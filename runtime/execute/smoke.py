"""The smoke test of a freshly loaded version: it answers, by its name, and not like its base."""

from fleet.errors import Diagnostic, EngineError, problem
from fleet.names import server_address
from fleet.resources import LoadedAdapter, Server
from runtime.engines.protocol import Engine
from runtime.execute.sight import Sight
from runtime.smoke import MOST_INPUTS


async def try_version(
    adapter: LoadedAdapter, inputs: tuple[str, ...], sight: Sight
) -> tuple[Diagnostic, ...]:
    """Ask a version its inputs, and its base until one of them is answered differently.

    Returns:
        Warnings, of what the test cannot show.

    Raises:
        EngineError: an answer is no good; or a version that no client is answered by yet answers
            every input as its base does, as a server does that dropped it without a word.
    """
    engine, asked = sight.engine_of(adapter.server), inputs[:MOST_INPUTS]
    base = await _base(adapter, sight)
    tells, compared = False, True
    for text in asked:
        answer = await engine.ask(adapter.server, adapter.adapter, text)
        if answer.model != adapter.adapter or not answer.text.strip():
            what = "nothing" if not answer.text.strip() else f"in the name of `{answer.model}`"
            raise EngineError(_bad(adapter, text, what))
        if not tells and compared:
            other = await _other(engine, adapter.server, base, text)
            compared = other is not None
            tells = compared and other != answer.text.strip()
    if tells:
        return ()
    where = f"`{adapter.adapter}` on `{adapter.server}`"
    if not compared:
        detail = f"The base could not be asked beside {where}, so nothing shows which one answers."
        return (_alike(detail, "warning"),)
    number = "the 1 input" if len(asked) == 1 else f"each of the {len(asked)} inputs"
    detail = f"{where} answers {number} as its base does, so nothing shows that it is served."
    if any(name == adapter.adapter for name, _ in await sight.served()):
        return (_alike(f"{detail} It has traffic already and keeps it.", "warning"),)
    raise EngineError(_alike(f"{detail} No client's request has reached it.", "error"))


async def _base(adapter: LoadedAdapter, sight: Sight) -> str:
    """Return the name by which the server's base is asked; empty where that is not known."""
    server = await sight.resource(adapter.server, server_address(adapter.server))
    if not isinstance(server, Server):
        return ""
    return server.flags.served_name if server.flags else server.base


async def _other(engine: Engine, server: str, base: str, text: str) -> str | None:
    """Return what the base answers; None: it cannot be asked."""
    if not base:
        return None
    try:
        return (await engine.ask(server, base, text)).text.strip() or None
    except EngineError:
        return None


def _bad(adapter: LoadedAdapter, text: str, what: str) -> Diagnostic:
    return problem(
        "FC5113",
        "A smoke test failed",
        f"`{adapter.adapter}` on `{adapter.server}` was asked {text!r:.80} and answered {what}. "
        "No client's request has reached it.",
        hint="Look at the version's evals; the route stays as it is.",
        command=f"fleetctl adapter show {adapter.adapter}",
    )


def _alike(detail: str, severity: str) -> Diagnostic:
    return Diagnostic(
        "FC5151",
        "No input tells the adapter from its base",
        detail,
        hint="Add an input to `smoke` of the adapter that its training has taught it to answer "
        "differently from the base; if none is, the adapter has no effect.",
        severity="warning" if severity == "warning" else "error",
    )
