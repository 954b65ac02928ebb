"""Solve linear and mixed-integer programs with HiGHS, which is optional.

One thread, and limits in nodes instead of seconds, so that results repeat.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from fleet.packing.problem import Ints, Reals

INFINITE = float("inf")
HALF = 0.5
"""Value between both of a binary variable."""
FEASIBLE = 2
"""HiGHS's number of a solution that is feasible."""


@dataclass(frozen=True, slots=True, eq=False)
class SolverResult:
    """Bound and solution of a program."""

    finished: bool
    """True when `bound` is the optimum or the program has no solution."""
    bound: float
    """No solution has less; infinite when there is none."""
    values: Reals | None
    """A solution, if found."""

    def chosen(self, variable: int) -> bool:
        """Say whether a binary variable is 1 in the solution."""
        return self.values is not None and bool(self.values[variable] > HALF)


def available() -> bool:
    """Say whether HiGHS is installed: the extra `proof`."""
    return find_spec("highspy") is not None


def _highspy() -> Any:
    import highspy  # noqa: PLC0415 (optional, and slow to import)

    return highspy


def _solver(**options: object) -> Any:
    # `Highs()` prints a banner on stdout, which belongs to data; the class under it does not.
    solver = _highspy()._Highs()  # noqa: SLF001
    always = {"output_flag": False, "threads": 1, "parallel": "off", "random_seed": 0}
    for name, value in (always | options).items():
        solver.setOptionValue(name, value)
    return solver


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

    def row(
        self, terms: list[tuple[int, float]], low: float = -INFINITE, high: float = INFINITE
    ) -> None:
        """Add `low <= sum(value * variable) <= high`."""
        self.columns += [column for column, _ in terms]
        self.values += [value for _, value in terms]
        self.starts.append(len(self.columns))
        self.low.append(low)
        self.high.append(high)

    def one_of(self, variables: list[int]) -> None:
        """Add a row: exactly a single binary variable is 1."""
        self.row([(variable, 1.0) for variable in variables], 1.0, 1.0)

    def solve(self, nodes: int) -> SolverResult:
        """Minimise within `nodes` branch-and-bound nodes."""
        highspy = _highspy()
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
        model.integrality_ = [highspy.HighsVarType.kInteger] * len(self.cost)
        solver = _solver(mip_max_nodes=nodes, mip_rel_gap=0.0, mip_abs_gap=0.0)
        solver.passModel(model)
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return SolverResult(finished=True, bound=INFINITE, values=None)
        info = solver.getInfo()
        is_feasible = info.primal_solution_status == FEASIBLE
        values = np.array(solver.getSolution().col_value) if is_feasible else None
        optimal = status == highspy.HighsModelStatus.kOptimal
        return SolverResult(finished=optimal, bound=float(info.mip_dual_bound), values=values)


class GrowingProgram:
    """A program whose rows are added as solutions break them; variables are from 0 up."""

    def __init__(self, variables: int) -> None:
        """Start without rows; all variables are real."""
        highspy = _highspy()
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = variables, 0
        model.col_cost_, model.col_lower_ = np.zeros((2, variables))
        model.col_upper_ = np.full(variables, INFINITE)
        self._solver = _solver(mip_rel_gap=0.0, mip_abs_gap=0.0, mip_heuristic_effort=0.0)
        self._solver.passModel(model)
        self._kinds = highspy.HighsVarType
        self._cost = np.zeros(variables)

    def row(self, columns: Ints, values: Reals, low: float, high: float = INFINITE) -> None:
        """Add a row: `low <= sum(value * variable) <= high`."""
        self._solver.addRow(low, high, len(columns), columns.astype(np.int32), values)

    def price(self, cost: Reals) -> None:
        """Set the costs of the first variables; others cost nothing."""
        for column, value in enumerate(cost.tolist()):
            self._solver.changeColCost(column, value)

    def relaxed(self) -> Reals:
        """Return a cheapest solution in real numbers."""
        self._solver.run()
        return np.array(self._solver.getSolution().col_value)

    def bound(self, whole: Ints, nodes: int) -> float:
        """Return a lower bound where some variables are whole, within as many nodes."""
        for column in whole.tolist():
            self._solver.changeColIntegrality(column, self._kinds.kInteger)
        # With the last solution as a start, HiGHS 1.16 loses a constant of its presolve.
        self._solver.clearSolver()
        self._solver.setOptionValue("mip_max_nodes", nodes)
        self._solver.run()
        dual_bound = float(self._solver.getInfo().mip_dual_bound)
        for column in whole.tolist():
            self._solver.changeColIntegrality(column, self._kinds.kContinuous)
        return dual_bound
