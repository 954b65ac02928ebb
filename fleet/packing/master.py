"""The linear program that covers items by columns: HiGHS, one thread, so that results repeat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Column = tuple[int, ...]

FREE = 1e30
PRIMAL = 4
"""HiGHS's number of the primal simplex method: a basis stays feasible when columns are added."""

PIVOTS = 20_000
"""Most steps of one solution: what comes after them is only worse columns."""


class Master:
    """Minimise the number of columns such that each item that is alive is in one."""

    def __init__(self, alive: NDArray[np.bool_]) -> None:
        """Start without columns; items that are not alive need none."""
        import highspy  # noqa: PLC0415 (optional, and slow to import)

        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = 0, len(alive)
        model.row_lower_ = alive.astype(np.float64)
        model.row_upper_ = np.full(len(alive), FREE)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.zeros(1, dtype=np.int32)
        # `Highs()` prints a banner on stdout, which belongs to data; what it wraps does not.
        self._solver: Any = highspy._Highs()  # type: ignore[attr-defined]  # noqa: SLF001
        options: dict[str, Any] = {
            "output_flag": False, "threads": 1, "parallel": "off", "random_seed": 0,
            "solver": "simplex", "simplex_strategy": PRIMAL, "presolve": "off",
            "simplex_iteration_limit": PIVOTS,
        }  # fmt: skip
        for name, value in options.items():
            self._solver.setOptionValue(name, value)
        self._solver.passModel(model)
        self._known: set[Column] = set()
        self.columns: list[Column] = []

    def add(self, columns: list[Column]) -> int:
        """Add the columns that are new; return how many were."""
        new = [each for each in dict.fromkeys(columns) if each not in self._known]
        if not new:
            return 0
        starts = np.cumsum([0, *map(len, new)]).astype(np.int32)
        rows = np.fromiter((item for each in new for item in each), np.int32, int(starts[-1]))
        count = len(new)
        self._solver.addCols(
            count, np.ones(count), np.zeros(count), np.full(count, FREE),
            len(rows), starts[:-1], rows, np.ones(len(rows)),
        )  # fmt: skip
        self._known.update(new)
        self.columns += new
        return count

    def solve(self) -> tuple[Reals, Reals, float]:
        """Return the value of each column, the worth of each item, and the optimum."""
        self._solver.run()
        solution = self._solver.getSolution()
        paid = float(self._solver.getInfo().objective_function_value)
        return np.array(solution.col_value), np.array(solution.row_dual), paid
