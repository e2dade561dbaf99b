"""Loading compiled kernels without what they do not use."""

from __future__ import annotations


def postpone_blas() -> None:
    """Keeps numba from loading scipy's linear algebra along with the first kernel.

    Numba looks then whether scipy's BLAS is there, by importing it, which takes longer than loading
    a dozen kernels. It is there: scipy is a dependency. Kernels that call it import it still, when
    they are compiled or called; the codec has none.
    """
    from numba.np import linalg

    look = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401 (looks when it is imported)
    finally:
        linalg.ensure_blas = look
