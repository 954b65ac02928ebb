"""HiGHS, the optional exact solver: one thread, limits in nodes, so that results repeat."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

FREE = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the solver found."""

    finished: bool
    """True when `bound` is the optimum or the program was shown to have no solution."""
    bound: float
    """No solution has less; infinite when there is none."""
    values: Reals | None
    """A solution, if one was found."""


def available() -> bool:
    """Say whether HiGHS is installed: the extra `proof`."""
    return find_spec("highspy") is not None


class Program:
    """A mixed-integer program, built row by row; all variables are integers from 0 up."""

    def __init__(self) -> None:
        """Start empty."""
        self.cost: list[float] = []
        self.upper: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self.starts: list[int] = [0]
        self.columns: list[int] = []
        self.values: list[float] = []

    def variable(self, *, cost: float = 0.0, upper: float = 1.0) -> int:
        """Add a variable and return its column."""
        self.cost.append(cost)
        self.upper.append(upper)
        return len(self.cost) - 1

    def row(self, terms: list[tuple[int, float]], low: float = -FREE, high: float = FREE) -> None:
        """Add `low <= sum(value * variable) <= high`."""
        self.columns += [column for column, _ in terms]
        self.values += [value for _, value in terms]
        self.starts.append(len(self.columns))
        self.low.append(low)
        self.high.append(high)

    def solve(self, nodes: int, *, start: Reals | None = None, relaxed: bool = False) -> Answer:
        """Minimise within so many branch-and-bound nodes."""
        import highspy  # noqa: PLC0415 (optional, and slow to import)

        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.cost), len(self.low)
        model.col_cost_ = np.array(self.cost)
        model.col_lower_ = np.zeros(len(self.cost))
        model.col_upper_ = np.array(self.upper)
        model.row_lower_, model.row_upper_ = np.array(self.low), np.array(self.high)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.array(self.starts, dtype=np.int32)
        model.a_matrix_.index_ = np.array(self.columns, dtype=np.int32)
        model.a_matrix_.value_ = np.array(self.values)
        if not relaxed:
            model.integrality_ = [highspy.HighsVarType.kInteger] * len(self.cost)
        # `Highs()` prints a banner on stdout, which belongs to data; what it wraps does not.
        solver: Any = highspy._Highs()  # type: ignore[attr-defined]  # noqa: SLF001
        options: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "parallel": "off",
            "random_seed": 0,
            "mip_max_nodes": nodes,
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 0.0,
        }
        for name, value in options.items():
            solver.setOptionValue(name, value)
        solver.passModel(model)
        if start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = start.tolist()
            solver.setSolution(solution)
        solver.run()
        return _answer(solver, highspy.HighsModelStatus, relaxed=relaxed)


def _answer(solver: Any, statuses: Any, *, relaxed: bool) -> Answer:
    status = solver.getModelStatus()
    if status == statuses.kInfeasible:
        return Answer(finished=True, bound=FREE, values=None)
    info = solver.getInfo()
    found = info.primal_solution_status == 2  # noqa: PLR2004 (HiGHS: feasible point)
    values = np.array(solver.getSolution().col_value) if found else None
    optimal = status == statuses.kOptimal
    if relaxed:
        bound = float(info.objective_function_value) if optimal else -FREE
    else:
        bound = float(info.mip_dual_bound)
    return Answer(finished=optimal, bound=bound, values=values)
