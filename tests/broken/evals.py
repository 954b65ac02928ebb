"""Evaluations that cannot be made, or not be billed, as they are declared."""

from tests.broken.case import A, Case, F

_GATEWAY = 'gateways:\n  main: {listen: "127.0.0.1:8080"}\n'
_THROUGH = "evals: {through: gateway}\n"
CASES = [
    Case("no gateway to count", F, _GATEWAY, _THROUGH, "FC1252", f"{F}:24:18", "Declare one"),
    Case(
        "engine that sends no header",
        F,
        _GATEWAY,
        f"{_GATEWAY}evals: {{through: gateway, engine: lm_eval}}\n",
        "FC1252",
        f"{F}:26:18",
        "`native` or `inspect`",
    ),
    Case(
        "tier that pays for what nobody counts",
        F,
        "replicas: 1, ",
        "replicas: 1, bill_evals: true, ",
        "FC1253",
        f"{F}:5:38",
        "through: gateway",
    ),
    Case(
        "client that pays for what nobody counts",
        A,
        "    tier: premium\n",
        "    tier: premium\n    bill_evals: true\n",
        "FC1253",
        f"{A}:4:17",
        "through: gateway",
    ),
]
