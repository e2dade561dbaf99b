r"""Frequency-selective fading: the tapped delay lines of 3GPP TR 38.901.

.. math:: y(t) = \sum_k \sqrt{P_k}\, h_k(t)\, x(t - \tau_k), \qquad \sum_k P_k = 1,

with independent Rayleigh taps :math:`h_k` of the Jakes spectrum, and with a line of sight of fixed
amplitude in TDL-D and TDL-E, whose Doppler shift is 0.7 of the maximum (clause 7.7.2). The delays
of the tables are multiplied by the delay spread (clause 7.7.3, equation 7.7-1); the powers are
scaled to a sum of 1, so that the mean power gain is 1.

**In samples.** A tap between two samples is spread over 32 of them by band-limited interpolation
(:mod:`phy.windowed_sinc`), so the filter is

.. math:: y_n = \sum_l g_l(n)\, x_{n-l}, \qquad
    g_l(n) = \sum_k \sqrt{P_k}\, h_k(n)\, s(l - \tau_k f_s).

The gains are computed at nodes at most 256 samples apart, and are linear between them; the nodes
are so dense that this differs from the Jakes process by less than -60 dB. The piecewise linear
gains are the channel: :meth:`FadingFilter.tap_gains` gives them exactly.

References:
    - 3GPP TR 38.901 V17.0.0, "Study on channel model for frequencies from 0.5 to 100 GHz", 7.7.2,
      tables 7.7.2-1 to 7.7.2-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from phy.channel import PlaneWaves
from phy.impairments.block import ComplexArray, SampleBlock, require
from phy.random_process import BLOCK, BlockQueue, Seed, child_seed
from phy.windowed_sinc import HALF_LENGTH, windowed_sinc

_LOS_DOPPLER = 0.7  # of the maximum Doppler shift
_SINUSOIDS = 32  # waves per tap: fewer than in a flat channel, as many taps make up the signal
_LARGEST_NODE_SPACING = 256
# A line between nodes d apart errs by at most (2 pi f_D d)^2 / 8, -60 dB at this angle.
_NODE_ANGLE = 0.089
_LARGEST_DELAY = 2048  # samples
# Samples and nodes worked on at a time, which bounds the memory for chunks of any size.
_SLICE = 2**14
_NODES = 256


@dataclass(frozen=True)
class PowerDelayProfile:
    """A table of clause 7.7.2.

    Attributes:
        delays: normalized delays, multiples of the delay spread.
        powers_db: powers, dB.
        line_of_sight: the first row is the line of sight of the first tap.
    """

    delays: tuple[float, ...]
    powers_db: tuple[float, ...]
    line_of_sight: bool = False


# fmt: off
PROFILES = {
    "flat": PowerDelayProfile(delays=(0.0,), powers_db=(0.0,)),
    "TDL-A": PowerDelayProfile(
        delays=(
            0.0000, 0.3819, 0.4025, 0.5868, 0.4610, 0.5375, 0.6708, 0.5750, 0.7618, 1.5375, 1.8978,
            2.2242, 2.1718, 2.4942, 2.5119, 3.0582, 4.0810, 4.4579, 4.5695, 4.7966, 5.0066, 5.3043,
            9.6586,
        ),
        powers_db=(
            -13.4, 0.0, -2.2, -4.0, -6.0, -8.2, -9.9, -10.5, -7.5, -15.9, -6.6, -16.7, -12.4, -15.2,
            -10.8, -11.3, -12.7, -16.2, -18.3, -18.9, -16.6, -19.9, -29.7,
        ),
    ),
    "TDL-B": PowerDelayProfile(
        delays=(
            0.0000, 0.1072, 0.2155, 0.2095, 0.2870, 0.2986, 0.3752, 0.5055, 0.3681, 0.3697, 0.5700,
            0.5283, 1.1021, 1.2756, 1.5474, 1.7842, 2.0169, 2.8294, 3.0219, 3.6187, 4.1067, 4.2790,
            4.7834,
        ),
        powers_db=(
            0.0, -2.2, -4.0, -3.2, -9.8, -1.2, -3.4, -5.2, -7.6, -3.0, -8.9, -9.0, -4.8, -5.7, -7.5,
            -1.9, -7.6, -12.2, -9.8, -11.4, -14.9, -9.2, -11.3,
        ),
    ),
    "TDL-C": PowerDelayProfile(
        delays=(
            0.0000, 0.2099, 0.2219, 0.2329, 0.2176, 0.6366, 0.6448, 0.6560, 0.6584, 0.7935, 0.8213,
            0.9336, 1.2285, 1.3083, 2.1704, 2.7105, 4.2589, 4.6003, 5.4902, 5.6077, 6.3065, 6.6374,
            7.0427, 8.6523,
        ),
        powers_db=(
            -4.4, -1.2, -3.5, -5.2, -2.5, 0.0, -2.2, -3.9, -7.4, -7.1, -10.7, -11.1, -5.1, -6.8,
            -8.7, -13.2, -13.9, -13.9, -15.8, -17.1, -16.0, -15.7, -21.6, -22.8,
        ),
    ),
    "TDL-D": PowerDelayProfile(
        delays=(
            0.0, 0.0, 0.035, 0.612, 1.363, 1.405, 1.804, 2.596, 1.775, 4.042, 7.937, 9.424, 9.708,
            12.525,
        ),
        powers_db=(
            -0.2, -13.5, -18.8, -21.0, -22.8, -17.9, -20.1, -21.9, -22.9, -27.8, -23.6, -24.8,
            -30.0, -27.7,
        ),
        line_of_sight=True,
    ),
    "TDL-E": PowerDelayProfile(
        delays=(
            0.0, 0.0, 0.5133, 0.5440, 0.5630, 0.5440, 0.7112, 1.9092, 1.9293, 1.9589, 2.6426,
            3.7136, 5.4524, 12.0034, 20.6519,
        ),
        powers_db=(
            -0.03, -22.03, -15.8, -18.1, -19.8, -22.9, -22.4, -18.6, -20.8, -22.6, -22.3, -25.6,
            -20.2, -29.8, -29.2,
        ),
        line_of_sight=True,
    ),
}
# fmt: on
"""Power delay profiles by name; "flat" is a single Rayleigh tap without delay."""


@dataclass(frozen=True)
class TappedDelayLine:
    """A fading multipath channel.

    Attributes:
        profile: one of :data:`PROFILES`.
        delay_spread_s: root-mean-square delay spread; TR 38.901 names 10 ns very short, 30 ns
            short, 100 ns nominal, 300 ns long and 1000 ns very long.
        doppler_hz: maximum Doppler shift f_D; 0 for a channel that stands still.
    """

    profile: str = "TDL-A"
    delay_spread_s: float = 100e-9
    doppler_hz: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.profile in PROFILES,
            f"unknown profile {self.profile!r}; one of {', '.join(PROFILES)}",
        )
        require(0 <= self.delay_spread_s < np.inf, f"delay_spread_s is {self.delay_spread_s}")
        require(0 <= self.doppler_hz < np.inf, f"doppler_hz is {self.doppler_hz}")

    @property
    def delays_s(self) -> npt.NDArray[np.float64]:
        """(K,) delays of the profile's rows."""
        return self.delay_spread_s * np.array(PROFILES[self.profile].delays)

    @property
    def powers(self) -> npt.NDArray[np.float64]:
        """(K,) mean powers of the profile's rows, of sum 1."""
        power = 10 ** (np.array(PROFILES[self.profile].powers_db) / 10)
        return power / power.sum()

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> FadingFilter:
        """See :class:`phy.impairments.Impairment`.

        Raises:
            ValueError: a Doppler shift above a tenth of the sample rate, or a delay of more than
                2048 samples.
        """
        return FadingFilter(self, sample_rate_hz, seed)


class FadingFilter(SampleBlock):
    """The stream object of :class:`TappedDelayLine`.

    The input is zero before its first and after its last sample; the output is as long as the
    input and the largest delay together.

    Attributes:
        parameters: of the channel.
        sample_rate_hz: samples per second.
    """

    def __init__(self, parameters: TappedDelayLine, sample_rate_hz: float, seed: Seed = 0) -> None:
        """Draw the taps; see :meth:`TappedDelayLine.block`."""
        delays = parameters.delays_s * sample_rate_hz
        doppler = parameters.doppler_hz / sample_rate_hz
        require(
            doppler <= 0.1,
            f"a Doppler shift of {parameters.doppler_hz} Hz is above a tenth of the sample rate",
        )
        require(
            delays.max() <= _LARGEST_DELAY,
            f"a delay of {delays.max():.0f} samples is more than {_LARGEST_DELAY}",
        )
        self.parameters = parameters
        self.sample_rate_hz = sample_rate_hz

        self._spacing = _LARGEST_NODE_SPACING
        while self._spacing > 1 and 2 * np.pi * doppler * self._spacing > _NODE_ANGLE:
            self._spacing //= 2
        self._waves = []
        for row in range(delays.size):
            rng = np.random.default_rng(child_seed(seed, row))
            if row == 0 and PROFILES[parameters.profile].line_of_sight:
                shift = np.array([2 * np.pi * _LOS_DOPPLER * doppler * self._spacing])
                self._waves.append(PlaneWaves(shift, rng.uniform(0, 2 * np.pi, 1)))
            else:
                self._waves.append(PlaneWaves.jakes(doppler * self._spacing, rng, _SINUSOIDS))

        longest = int(np.ceil(delays.max()))
        lags = np.arange(-HALF_LENGTH, longest + HALF_LENGTH + 1)
        spread = windowed_sinc(lags - delays[:, None])
        used = np.flatnonzero(spread.any(axis=0))
        self._first_lag = int(lags[used[0]])
        spread = spread[:, used[0] : used[-1] + 1]
        # (K, L), oldest sample first.
        self._spread = (np.sqrt(parameters.powers)[:, None] * spread[:, ::-1]).astype(np.float32)

        self._filters = BlockQueue(self._filter_blocks())
        # Filters at the nodes from that of the next output on.
        self._at_nodes = np.empty((0, 2, spread.shape[1]), dtype=np.float32)
        self._next = 0  # index of the next output
        self._held = np.zeros(self._spread.shape[1] - 1 + self._first_lag, dtype=np.complex64)
        self._tail = longest

    def tap_gains(self, positions: npt.ArrayLike) -> ComplexArray:
        """The true gains of the profile's rows.

        Arguments:
            positions: (n,) indices of output samples, in any order.

        Returns:
            (n, K) complex64, sqrt(P_k) h_k.
        """
        node, phase = np.divmod(np.asarray(positions, dtype=np.int64), self._spacing)
        weight = phase / self._spacing
        # Many positions lie between the same two nodes.
        nodes, places = np.unique(np.stack([node, node + 1]), return_inverse=True)
        left, right = places.reshape(2, *node.shape)
        gains = []
        for waves in self._waves:
            at_nodes = waves.at(nodes)
            gains.append((1 - weight) * at_nodes[left] + weight * at_nodes[right])
        return (np.sqrt(self.parameters.powers) * np.stack(gains, axis=-1)).astype(np.complex64)

    def frequency_response(
        self, positions: npt.ArrayLike, frequencies_hz: npt.ArrayLike
    ) -> ComplexArray:
        r"""The true response :math:`H(f, n) = \sum_k \sqrt{P_k} h_k(n) e^{-j2\pi f\tau_k}`.

        Arguments:
            positions: (n,) indices of output samples, in any order.
            frequencies_hz: (F,) frequencies in the baseband.

        Returns:
            (n, F) complex64.
        """
        turns = np.outer(self.parameters.delays_s, np.asarray(frequencies_hz, dtype=np.float64))
        return self.tap_gains(positions) @ np.exp(-2j * np.pi * turns).astype(np.complex64)

    def flush(self) -> ComplexArray:
        """See :meth:`phy.impairments.SampleBlock.flush`."""
        return self._transform(np.zeros(self._tail - self._first_lag, dtype=np.complex64))

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        held = np.concatenate([self._held, samples])
        history = self._spread.shape[1] - 1
        output = np.empty(max(held.size - history, 0), dtype=np.complex64)
        for start in range(0, output.size, _SLICE):
            stop = min(start + _SLICE, output.size)
            output[start:stop] = self._filtered(held[start : stop + history])
        self._held = held[output.size :]
        return output

    def _filtered(self, samples: ComplexArray) -> ComplexArray:
        """The next outputs, one for each position of the filter over the samples."""
        count = samples.size - self._spread.shape[1] + 1
        phase = self._next % self._spacing
        last_node = (phase + count) // self._spacing + 1
        more = self._filters.take(last_node + 1 - len(self._at_nodes))
        at_nodes = np.concatenate([self._at_nodes, more])
        output = _convolve(samples, at_nodes, phase, self._spacing)
        self._next += count
        self._at_nodes = at_nodes[(phase + count) // self._spacing :]
        return output

    def _filter_blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Blocks of filters at the nodes as in :func:`_convolve`, endlessly."""
        for gains in zip(*(waves.blocks() for waves in self._waves), strict=True):
            for some in np.split(np.stack(gains), BLOCK // _NODES, axis=1):
                yield _filters_at_nodes(some, self._spread)


@numba.njit(cache=True)
def _filters_at_nodes(
    gains: ComplexArray, spread: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:  # pragma: no cover - compiled
    """Sum over k of gains[k, n] spread[k, l]: a plain loop, the same with every BLAS library."""
    filters = np.zeros((gains.shape[1], 2, spread.shape[1]), dtype=np.float32)
    for n in range(gains.shape[1]):
        real, imag = filters[n, 0], filters[n, 1]
        for k in range(gains.shape[0]):
            gain_real, gain_imag = gains[k, n].real, gains[k, n].imag
            for place in range(spread.shape[1]):
                real[place] += gain_real * spread[k, place]
                imag[place] += gain_imag * spread[k, place]
    return filters


# The terms are summed in any order; there are always as many, so it is the same for every chunking.
@numba.njit(cache=True, fastmath={"reassoc", "contract"})
def _convolve(
    samples: ComplexArray, filters: npt.NDArray[np.float32], phase: int, spacing: int
) -> ComplexArray:  # pragma: no cover - compiled
    """Filter with coefficients that are linear between nodes.

    Arguments:
        samples: (n + L - 1,) input, from the oldest sample that the first output needs.
        filters: (nodes, 2, L) real and imaginary parts of the coefficients at the nodes.
        phase: place of the first output behind the first node.
        spacing: of the nodes, samples.

    Returns:
        (n,) output.
    """
    length = filters.shape[2]
    count = samples.size - length + 1
    output = np.empty(count, dtype=np.complex64)
    i, q = samples.real.copy(), samples.imag.copy()
    for node in range((phase + count - 1) // spacing + 1):
        at_node = node * spacing - phase
        left_i, left_q = filters[node, 0], filters[node, 1]
        right_i, right_q = filters[node + 1, 0], filters[node + 1, 1]
        for n in range(max(at_node, 0), min(at_node + spacing, count)):
            weight = np.float32((n - at_node) / spacing)
            real = np.float32(0)
            imag = np.float32(0)
            for k in range(length):
                c_i = left_i[k] + weight * (right_i[k] - left_i[k])
                c_q = left_q[k] + weight * (right_q[k] - left_q[k])
                real += c_i * i[n + k] - c_q * q[n + k]
                imag += c_i * q[n + k] + c_q * i[n + k]
            output[n] = complex(real, imag)
    return output
