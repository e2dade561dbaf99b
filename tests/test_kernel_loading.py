"""What loading a model leaves out, and that it is still there for those who need it."""

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
from numba import njit
from source_codec.model import Model

Model.load()
print("scipy.linalg" in sys.modules)

@njit
def product_and_solution(a, b):
    return a @ b, np.linalg.solve(a, b)

product, solution = product_and_solution(np.array([[2.0, 1], [1, 3]]), np.array([[1.0, 2], [3, 4]]))
print(product.tolist())
print(solution.round(9).tolist())
print("scipy.linalg" in sys.modules)
"""


def test_linear_algebra_is_loaded_when_a_kernel_needs_it() -> None:
    """[[2, 1], [1, 3]] times [[1, 2], [3, 4]], and the solution of that equation, by hand."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "False",
        "[[5.0, 8.0], [10.0, 14.0]]",
        "[[0.0, 0.4], [1.0, 1.2]]",
        "True",
    ]
