r"""The resource grid of CP-OFDM: carriers times symbols, and its way to samples and back.

An OFDM symbol carries the values :math:`X_k` on the used carriers k at once,

.. math:: x_n = \frac{1}{\sqrt U} \sum_k X_k\, e^{j 2\pi k n / N}, \qquad -C \le n < N,

with N the FFT size, U the number of used carriers, and C the length of the cyclic prefix. The used
carriers are :math:`\pm 1 \ldots \pm U/2`: the carrier at 0, where mixers leak, stays empty. A
channel whose impulse response is shorter than the prefix only multiplies each carrier by its
frequency response, :math:`Y_k = H_k X_k`.

Samples have unit mean power if the :math:`X_k` have unit energy; a carrier's Es/N0 is then
:math:`N/U` times the power ratio of signal and noise in the samples, so N/U is what other waveforms
call samples per symbol. An OFDM symbol lasts :math:`(N + C)\,U/N` channel symbols and carries U.

**Rows.** A frame's OFDM symbols are the rows of a grid::

    | preamble | training | header section            | payload section            |
    | 2 chirps | 1 or 2   | 800 data values, 7 rows   | D data values, D / 120 rows |

Training rows are known on all carriers (the block pilot), all others on a comb of carriers, one in
`pilot_spacing`, each in the middle of its cell. What a section's last row has more than data
is filled with known values.

References:
    - R. Prasad, "OFDM for Wireless Communications Systems", 2004, chapter 2.
    - 3GPP TS 38.211, 5.3.1 (the baseband signal).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt
from scipy.fft import fft, ifft

from phy.frame import HEADER_SYMBOLS, FrameHeader, encode_header
from phy.pilots import IntArray, pilot_symbols

ComplexArray = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Numerology:
    """Sizes of the grid.

    Attributes:
        fft_size: N.
        used_carriers: U, a multiple of twice the pilot spacing that divides N.
        cyclic_prefix: C in samples.
        pilot_spacing: distance of comb pilots in carriers, even. It samples the frequency response
            of any channel within the prefix if it is at most N / C.
        training_symbols: OFDM symbols known on all carriers, 1 or 2.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    fft_size: int = 256
    used_carriers: int = 128
    cyclic_prefix: int = 16
    pilot_spacing: int = 16
    training_symbols: int = 2

    def __post_init__(self) -> None:
        N, U, C, D = self.fft_size, self.used_carriers, self.cyclic_prefix, self.pilot_spacing
        if min(U, C, D) < 1:
            raise ValueError("all sizes of the grid must be positive")
        for wrong, reason in (
            (not 16 <= N <= 8192, f"the FFT size must be 16 to 8192, not {N}"),
            (D % 2 != 0, f"the pilot spacing must be even, not {D}"),
            (N % U != 0 or N == U, f"{U} used carriers are no half or smaller part of {N}"),
            (
                U % (2 * D) != 0,
                f"{U} used carriers are not a multiple of twice the pilot spacing {D}",
            ),
            (not 2 <= C <= N, f"a cyclic prefix must have 2 to {N} samples, not {C}"),
            (
                U <= N and C % (N // U) != 0,
                f"a cyclic prefix of {C} is no whole number of channel symbols",
            ),
            (C * D > N, f"a pilot every {D} of {N} carriers cannot see delays up to {C} samples"),
            (self.training_symbols not in (1, 2), "there must be 1 or 2 training symbols"),
        ):
            if wrong:
                raise ValueError(reason)

    @property
    def samples_per_symbol(self) -> int:
        """N / U: samples per channel symbol."""
        return self.fft_size // self.used_carriers

    @property
    def row_samples(self) -> int:
        """N + C: samples of an OFDM symbol."""
        return self.fft_size + self.cyclic_prefix

    @property
    def row_symbols(self) -> int:
        """Channel symbols that an OFDM symbol lasts."""
        return self.row_samples // self.samples_per_symbol

    @property
    def carriers(self) -> IntArray:
        """(U,) used carriers in cycles per N samples, ascending, without 0."""
        half = self.used_carriers // 2
        return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])

    @property
    def comb(self) -> IntArray:
        """(U / spacing,) columns of the comb pilots: carriers +-spacing/2, +-3 spacing/2, ..."""
        carriers = self.carriers
        return np.flatnonzero(carriers % self.pilot_spacing == self.pilot_spacing // 2)

    @property
    def row_data(self) -> int:
        """Data values in a row with comb pilots."""
        return self.used_carriers - self.used_carriers // self.pilot_spacing

    def rows(self, data_symbols: int) -> int:
        """Rows of a section with `data_symbols` data values."""
        return -(-data_symbols // self.row_data)

    @property
    def header_end(self) -> int:
        """Rows of training and header section: where the payload section starts."""
        return self.training_symbols + self.rows(HEADER_SYMBOLS)

    def frame_rows(self, data_symbols: int) -> int:
        """Rows of a frame."""
        return self.header_end + self.rows(data_symbols)

    def padding(self, data_symbols: int) -> int:
        """Values in a frame's last row that carry no data."""
        return self.rows(data_symbols) * self.row_data - data_symbols

    def header_places(self) -> IntArray:
        """(800,) places of the header's values in the flattened grid."""
        return _data_places(self, self.training_symbols, HEADER_SYMBOLS)

    def payload_places(self, data_symbols: int) -> IntArray:
        """(D,) places of the payload's values in the flattened grid."""
        return _data_places(self, self.header_end, data_symbols)


@lru_cache(maxsize=64)
def _data_places(numerology: Numerology, first_row: int, count: int) -> IntArray:
    columns = np.delete(np.arange(numerology.used_carriers), numerology.comb)
    row, column = np.divmod(np.arange(count), columns.size)
    places = (first_row + row) * numerology.used_carriers + columns[column]
    places.setflags(write=False)
    return places


def pilot_grid(numerology: Numerology, rows: int) -> ComplexArray:
    """(rows, U) complex64: what is sent wherever there is no data, unit-modulus pilots."""
    return pilot_symbols(rows * numerology.used_carriers).reshape(rows, -1).copy()


def header_grid(numerology: Numerology, header: FrameHeader) -> ComplexArray:
    """(header_end, U) complex64: training and header section, all known with the header."""
    grid = pilot_grid(numerology, numerology.header_end)
    grid.reshape(-1)[numerology.header_places()] = encode_header(header)
    return grid


def frame_grid(numerology: Numerology, header: FrameHeader, payload: ComplexArray) -> ComplexArray:
    """All values of a frame.

    Arguments:
        numerology: sizes.
        header: its `data_symbols` is the length of `payload`.
        payload: (D,) complex64 data values of unit mean energy.

    Returns:
        (rows, U) complex64.

    Raises:
        ValueError: the payload's length contradicts the header.
    """
    if payload.shape != (header.data_symbols,):
        raise ValueError(f"a payload of {payload.shape}, the header says {header.data_symbols}")
    grid = pilot_grid(numerology, numerology.frame_rows(header.data_symbols))
    grid[: numerology.header_end] = header_grid(numerology, header)
    grid.reshape(-1)[numerology.payload_places(header.data_symbols)] = payload
    return grid


def modulate(numerology: Numerology, grid: ComplexArray) -> ComplexArray:
    """Rows to samples, each with its cyclic prefix.

    Arguments:
        numerology: sizes.
        grid: (rows, U) complex64 values of unit energy.

    Returns:
        (rows (N + C),) complex64 of unit mean power.
    """
    spectrum = np.zeros((grid.shape[0], numerology.fft_size), dtype=np.complex64)
    spectrum[:, numerology.carriers] = grid  # negative carriers count from the end
    scale = np.float32(numerology.fft_size / np.sqrt(numerology.used_carriers))
    useful = scale * ifft(spectrum, axis=1)
    prefix = useful[:, numerology.fft_size - numerology.cyclic_prefix :]
    return np.concatenate([prefix, useful], axis=1).reshape(-1)


def demodulate(
    numerology: Numerology, samples: ComplexArray, instants: npt.NDArray[np.floating]
) -> ComplexArray:
    """Rows from samples.

    Windows begin half a prefix early, at whole samples, so that errors of that size in either
    direction leave them inside of the symbol; what they are early turns the carriers' phases and
    is turned back.

    Arguments:
        numerology: sizes.
        samples: (n,) complex64, carrier offset removed.
        instants: (rows,) where the useful parts of the rows begin, in samples, fractional.

    Returns:
        (rows, U) complex64: without noise and channel what was sent.
    """
    first = np.floor(instants).astype(np.int64) - numerology.cyclic_prefix // 2
    windows = np.empty((instants.size, numerology.fft_size), dtype=np.complex64)
    _take_windows(samples, first, windows)
    values = np.empty((instants.size, numerology.used_carriers), dtype=np.complex64)
    _turn_back(fft(windows, axis=1, overwrite_x=True), instants - first, values)
    return values


@numba.njit(cache=True, nogil=True)
def _take_windows(
    samples: ComplexArray, first: IntArray, windows: ComplexArray
) -> None:  # pragma: no cover - compiled
    """Samples from each place on; outside of them the last one of that side."""
    for row in range(first.size):
        start, N = first[row], windows.shape[1]
        if 0 <= start <= samples.size - N:
            windows[row] = samples[start : start + N]
        else:
            for n in range(N):
                windows[row, n] = samples[min(max(start + n, 0), samples.size - 1)]


@numba.njit(cache=True, nogil=True)
def _turn_back(
    spectrum: ComplexArray, early: npt.NDArray[np.floating], values: ComplexArray
) -> None:  # pragma: no cover - compiled
    """The used carriers, scaled, of windows that begin some samples early.

    Arguments:
        spectrum: (rows, N) complex64.
        early: (rows,) samples.
        values: (rows, U) complex64, overwritten.
    """
    N, half = spectrum.shape[1], values.shape[1] // 2
    scale = np.sqrt(2 * half) / N
    for row in range(early.size):
        step = np.exp(2j * np.pi * early[row] / N)
        phasor = complex(scale)
        for k in range(1, half + 1):
            # Renewed now and then, lest rounding errors grow.
            phasor = scale * step**k if k % 64 == 0 else phasor * step
            turn = np.complex64(phasor)
            values[row, half + k - 1] = spectrum[row, k] * turn
            values[row, half - k] = spectrum[row, N - k] * np.conj(turn)
