r"""The preamble: an up-chirp and a down-chirp, which tell time and frequency apart.

A Zadoff-Chu sequence of root 1, counted from its middle, :math:`u_n = e^{j\pi n(n+1)/L}`, is a
sampled linear chirp from the lowest frequency to the highest. A carrier offset of :math:`\nu`
cycles per symbol only moves it in time, by :math:`-\nu L` symbols, up to a phase and to the share
:math:`|\nu|` that leaves window and band; its conjugate, which sweeps the other way, moves by
:math:`\nu L`. So one correlator for each finds a preamble whatever its carrier offset is, and the
places :math:`t_1, t_2` of their peaks give both unknowns:

.. math:: t_0 = \frac{t_1 + t_2 - L}{2}, \qquad \nu = \frac{t_2 - t_1 - L}{2L}.

Constant modulus and a flat spectrum besides: a constant or a tone at the input does not look like
it.

References:
    - D. C. Chu, "Polyphase codes with good periodic correlation properties", IEEE Trans. Inf.
      Theory 18(4), 1972.
    - C. Bernier, F. Dehmas, N. Deparis, "Low complexity LoRa frame synchronization for ultra-low
      power software-defined radios", IEEE Trans. Commun. 68(5), 2020 (up- and down-chirps).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex64]


@lru_cache(maxsize=8)
def up_chirp(length: int) -> ComplexArray:
    """(L,) complex64 of unit modulus, read-only: a Zadoff-Chu sequence of odd length.

    Raises:
        ValueError: an even length, or one below 3.
    """
    if length < 3 or length % 2 == 0:
        raise ValueError(f"a chirp must have an odd number of symbols from 3 on, not {length}")
    n = np.arange(length) - length // 2
    # Modulo 2L in integers, so that the phase is exact however long the chirp is.
    chirp = np.exp(1j * np.pi * (n * (n + 1) % (2 * length)) / length).astype(np.complex64)
    chirp.setflags(write=False)
    return chirp


def down_chirp(length: int) -> ComplexArray:
    """(L,) complex64: the conjugate of :func:`up_chirp`."""
    return np.conj(up_chirp(length))


def chirp_pair(length: int) -> ComplexArray:
    """(2 L,) complex64: the up-chirp, then the down-chirp."""
    return np.concatenate([up_chirp(length), down_chirp(length)])
