"""Make the context of evaluations: store, clock, secrets, and how versions are asked."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from fleet.evals import eval_spec_of, objection
from runtime.evals.context import EvalContext
from runtime.evals.store import EvalStore
from runtime.evals.target import through_gateway
from runtime.secrets import read_secret
from runtime.workspace import Workspace


def eval_context(workspace: Workspace, through: str = "") -> EvalContext:
    """Return where this project keeps evaluations, and how versions are asked.

    Args:
        workspace: The project.
        through: `server` or `gateway`; empty: as declared.

    Raises:
        FleetError: requests go through a gateway, and there is none or no secret of its operator.
    """
    fleet = workspace.fleet()
    context = EvalContext(
        EvalStore(workspace.state_dir / "evals"),
        workspace.now,
        lambda: uuid4().hex[:12],
        workspace.root,
        lambda reference: read_secret(workspace.root, reference),
        judge_objection=_judge_objections(workspace),
    )
    if (through or fleet.evals.through) == "server":
        return context
    way = through_gateway(fleet.gateways.values(), workspace.state_dir)
    return replace(context, resolve_target=way)


def _judge_objections(workspace: Workspace) -> Callable[[str], str]:
    """Return a function of a client: why the judge decides no gate of it; empty: it does."""

    def why(client: str) -> str:
        judge = eval_spec_of(workspace.fleet().evals).judge
        return objection(workspace.ledger().read(), judge, client)

    return why
