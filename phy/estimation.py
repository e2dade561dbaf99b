r"""Channel estimation from known symbols: least squares, noise variance, Wiener interpolation.

Known symbols :math:`x_k` of unit modulus (preamble, pilots, and the header once it is decoded) give
the least-squares estimates :math:`z_k = y_k x_k^* = h_k + n_k`. Runs of adjacent known symbols are
averaged in groups, over which the channel is constant to any useful accuracy; group g of
:math:`n_g` symbols at mean time :math:`t_g` has noise variance :math:`N_0/n_g`.

**The fading model in few dimensions.** With the Jakes spectrum the gain has autocorrelation
:math:`P J_0(2\pi f_D \tau)`. The integral that defines J0, taken by the midpoint rule in Q angles,

.. math:: J_0(2\pi f_D \tau) \approx \frac1Q \sum_{q=1}^{Q} \cos(2\pi f_q \tau), \qquad
    f_q = f_D \cos\left(\frac\pi2 \, \frac{q-\frac12}{Q}\right),

is exact to rounding once 4Q exceeds the largest argument by a margin. So the gain is
:math:`h(t) = \sum_i a_i \phi_i(t)` with 2Q independent :math:`a_i \sim CN(0, P)` and
:math:`\phi` the cosines and sines of the :math:`f_q`, scaled by :math:`Q^{-1/2}`: some tens of
coefficients for thousands of symbols. The singular value decomposition of the weighted matrix
:math:`\sqrt{n_g}\,\phi_i(t_g) = U S V^T` depends on the geometry and the Doppler only. With it
everything that depends on the data or on the SNR is a few products of small matrices:

- **Wiener (LMMSE) estimate** at times t, with :math:`B = \phi(t) V` and :math:`\lambda = N_0/P`:
  :math:`\hat h = B\, \mathrm{diag}\left(\frac{S}{S^2+\lambda}\right) U^T \sqrt{n}\, z`, and its
  error variance :math:`P(1 - \sum_i B_i^2 S_i^2/(S_i^2+\lambda))`;
- **likelihood** of a Doppler shift, by which the shift is chosen from a grid;
- **noise variance**: what lies outside the space that a gain of the largest Doppler can reach,
  per degree of freedom. It does not contain the signal, so it is unbiased at any SNR.

References:
    - P. Hoeher, S. Kaiser, P. Robertson, "Two-dimensional pilot-symbol-aided channel estimation by
      Wiener filtering", ICASSP 1997.
    - S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", 12.4 (LMMSE),
      and "Detection Theory", 5.3 (likelihood of a Gaussian signal in eigen-coordinates).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_GROUP = 16  # symbols averaged in one group: 1.6 % of a cycle at a Doppler of 0.001 cycles/symbol
RANK_TOLERANCE = 1e-8
"""Share of the signal power below which a dimension is left out."""


def jakes_basis(times: npt.ArrayLike, doppler: float) -> FloatArray:
    r"""Functions whose Gram matrix is the Jakes autocorrelation.

    Arguments:
        times: (n,) times in symbols.
        doppler: f_D in cycles per symbol.

    Returns:
        (n, 2Q) float64 matrix F with :math:`F F^T = J_0(2\pi f_D (t_i - t_j))`.
    """
    t = np.asarray(times, dtype=np.float64)
    argument = 2 * np.pi * doppler * float(np.ptp(t))
    # The midpoint rule errs by about 2 J_4Q(x), which vanishes fast once 4Q exceeds x.
    Q = int(np.ceil((argument + 8 * np.cbrt(argument) + 16) / 4))
    frequency = doppler * np.cos(np.pi / 2 * (np.arange(Q) + 0.5) / Q)
    phase = 2 * np.pi * np.outer(t, frequency)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(Q)


@dataclass(frozen=True)
class ChannelEstimate:
    """What the receiver knows of the channel over one section of a frame.

    Attributes:
        gain: (n,) complex64 estimates of h at the data symbols.
        error_variance: (n,) float32, E|h - gain|^2 as the estimator expects it.
        noise_variance: estimate of N0.
        signal_power: mean of |h|^2 over the known symbols.
        doppler: f_D of the Wiener filter in cycles per symbol; None without one.
        evm: root-mean-square error of the equalized known symbols relative to their amplitude.
        errors: (K,) squared errors |y conj(x) - h|^2 at the known symbols, None where the estimate
            runs through them. On the OFDM grid: at the lattice, (T P,), each scaled to N0.
        gain_at_known: (K,) complex64 estimates at the known symbols, None likewise, and on the
            OFDM grid.
    """

    gain: npt.NDArray[np.complex64]
    error_variance: npt.NDArray[np.float32]
    noise_variance: float
    signal_power: float
    doppler: float | None
    evm: float
    errors: FloatArray | None = None
    gain_at_known: npt.NDArray[np.complex64] | None = None

    @property
    def effective_noise_variance(self) -> npt.NDArray[np.float32]:
        """(n,) float32, noise plus estimation error as the demapper should count it.

        The error of an LMMSE estimate is uncorrelated with the estimate, so to a unit-energy symbol
        it is additional noise: y = gain x + (h - gain) x + n.
        """
        return self.error_variance + np.float32(self.noise_variance)

    @property
    def typical_noise_variance(self) -> float:
        """N0 outside of bursts: from the median of the exponentially distributed errors."""
        if self.errors is None:
            return self.noise_variance
        return float(np.median(self.errors) / np.log(2))

    @property
    def snr_db(self) -> float:
        """Estimated Es/N0 over the section, dB."""
        return float(10 * np.log10(self.signal_power / self.noise_variance))


@dataclass(frozen=True)
class Decomposition:
    """A process as it is observed in white noise, in independent coordinates; see the module.

    Attributes:
        directions: U, (observed, rank).
        singular: S, (rank,).
        at_wanted: B, (wanted, rank); the process there is B times coordinates of unit variance.
        power_at_wanted: B^2.
    """

    directions: FloatArray
    singular: FloatArray
    at_wanted: FloatArray
    power_at_wanted: FloatArray

    @classmethod
    def of(cls, observed: FloatArray, wanted: FloatArray, tolerance: float) -> Decomposition:
        """Decompose a basis.

        Arguments:
            observed: (k, m) the basis where it is observed, over the noise's standard deviation.
            wanted: (n, m) the basis where the process is wanted.
            tolerance: S^2 of directions that are left out.
        """
        U, S, Vt = np.linalg.svd(observed, full_matrices=False)
        rank = int(np.sum(tolerance < S**2))
        B = wanted @ Vt[:rank].T
        return cls(U[:, :rank], S[:rank], B, B**2)


class ChannelEstimator:
    """Interpolation for one frame geometry; precomputes all that does not depend on data.

    Holds no state between frames: its methods are pure functions of their arguments.
    """

    def __init__(
        self,
        known: npt.ArrayLike,
        wanted: npt.ArrayLike,
        dopplers: tuple[float, ...],
        node_spacing: int = 32,
    ) -> None:
        """Prepare for known and wanted symbols at given places.

        Arguments:
            known: (K,) ascending places of the known symbols, in symbols.
            wanted: (n,) places at which the gain is wanted.
            dopplers: candidate values of f_D in cycles per symbol; the largest is also the
                bandwidth outside of which all is taken for noise.
            node_spacing: the Wiener estimate is computed at nodes at most this many symbols apart,
                and linearly between them; that error is below -60 dB for f_D < 0.02 / node_spacing.

        Raises:
            ValueError: no candidate, a negative one, or too few known symbols to see noise.
        """
        if not dopplers or min(dopplers) < 0:
            raise ValueError("candidate Doppler shifts must be given, and not be negative")
        # The model of the largest Doppler, by which noise is told from fading, comes last.
        dopplers = tuple(sorted(dopplers))
        places = np.asarray(known, dtype=np.int64)
        targets = np.asarray(wanted, dtype=np.int64)

        # A group ends where the known symbols are not adjacent, or after _GROUP symbols.
        new_run = np.diff(places, prepend=places[0] - 2) != 1
        run_start = np.flatnonzero(new_run)[np.cumsum(new_run) - 1]
        offset = np.arange(places.size) - run_start
        self._group_start = np.flatnonzero(offset % _GROUP == 0)
        sizes = np.diff(self._group_start, append=places.size)
        times = np.add.reduceat(places, self._group_start) / sizes
        self._root_size = np.sqrt(sizes)

        first = min(places[0], targets.min(initial=places[0]))
        last = max(places[-1], targets.max(initial=places[-1]))
        nodes = np.linspace(first, last, max(2, 1 + -(-(last - first) // node_spacing)))
        self._nodes_to_known = _LinearInterpolation(nodes, places)
        self._nodes_to_wanted = _LinearInterpolation(nodes, targets)
        self._groups_to_wanted = _LinearInterpolation(times, targets)

        self._dopplers = dopplers
        self._models = []
        for doppler in dopplers:
            basis = jakes_basis(np.concatenate([times, nodes]), doppler)
            observed, at_nodes = np.split(basis, [times.size])
            weighted = self._root_size[:, None] * observed
            self._models.append(Decomposition.of(weighted, at_nodes, RANK_TOLERANCE * places.size))
        self._all_directions = np.concatenate([model.directions for model in self._models], axis=1)
        self._all_singular = np.concatenate([model.singular for model in self._models])
        self._bounds = np.cumsum([0] + [model.singular.size for model in self._models])
        self._noise_dimensions = places.size - self._models[-1].singular.size
        if self._noise_dimensions < 1:
            raise ValueError("too few known symbols to tell noise from fading")

    def wiener(self, least_squares: npt.NDArray[np.complex64]) -> ChannelEstimate:
        """LMMSE estimate, its Doppler chosen by likelihood.

        Arguments:
            least_squares: (K,) complex z = y conj(x) at the known places of one frame.

        Returns:
            The estimate at the wanted places.
        """
        z = np.asarray(least_squares, dtype=np.complex128)
        _, projected, noise_variance, signal_power = self._analyse(z)

        # Each coordinate of U^T sqrt(n) z is CN(0, P S^2 + N0): sum the log-likelihoods per model.
        snr = signal_power / noise_variance
        boost = snr * self._all_singular**2
        power = projected[:, 0] ** 2 + projected[:, 1] ** 2
        likelihood = power * boost / (1 + boost) / noise_variance - np.log1p(boost)
        best = int(np.argmax(np.add.reduceat(likelihood, self._bounds[:-1])))

        model = self._models[best]
        coordinates = projected[self._bounds[best] : self._bounds[best + 1]]
        denominator = model.singular**2 + 1 / snr
        nodes = model.at_wanted @ (coordinates * (model.singular / denominator)[:, None])
        explained = model.power_at_wanted @ (model.singular**2 / denominator)
        error_at_nodes = (signal_power * np.maximum(1 - explained, 0)).astype(np.float32)
        gain_at_nodes = nodes.view(np.complex128)[:, 0].astype(np.complex64)
        gain_at_known = self._nodes_to_known(gain_at_nodes)
        return ChannelEstimate(
            gain=self._nodes_to_wanted(gain_at_nodes),
            error_variance=self._nodes_to_wanted(error_at_nodes),
            noise_variance=noise_variance,
            signal_power=signal_power,
            doppler=self._dopplers[best],
            evm=error_vector_magnitude(z, gain_at_known),
            errors=squared_errors(z, gain_at_known),
            gain_at_known=gain_at_known,
        )

    def linear(self, least_squares: npt.NDArray[np.complex64]) -> ChannelEstimate:
        """Lines through the least-squares estimates: the baseline that knows nothing of the fading.

        Its error variance counts the noise of the pilots, not the bending of the gain between them.

        Arguments:
            least_squares: (K,) complex z = y conj(x) at the known places of one frame.

        Returns:
            The estimate at the wanted places.
        """
        z = np.asarray(least_squares, dtype=np.complex128)
        grouped, _, noise_variance, signal_power = self._analyse(z)
        gain_at_groups = (grouped / self._root_size).astype(np.complex64)
        left, weight = self._groups_to_wanted.left, self._groups_to_wanted.weight
        size = self._root_size**2
        averaging = (1 - weight) ** 2 / size[left] + weight**2 / size[left + 1]
        return ChannelEstimate(
            gain=self._groups_to_wanted(gain_at_groups),
            error_variance=(noise_variance * averaging).astype(np.float32),
            noise_variance=noise_variance,
            signal_power=signal_power,
            doppler=None,
            # A line through the pilots leaves no error at them to measure.
            evm=float(np.sqrt(noise_variance / signal_power)),
        )

    def _analyse(
        self, z: npt.NDArray[np.complex128]
    ) -> tuple[npt.NDArray[np.complex128], FloatArray, float, float]:
        """Weighted group estimates sqrt(n) z, their coordinates in all models, N0 and P."""
        sums: npt.NDArray[np.complex128] = np.add.reduceat(z, self._group_start)
        grouped = sums / self._root_size
        projected = self._all_directions.T @ grouped.view(np.float64).reshape(-1, 2)
        energy = float(np.vdot(z, z).real)
        reachable = float(np.sum(projected[self._bounds[-2] :] ** 2))  # by the largest Doppler
        tiny = 1e-12 * energy / z.size + float(np.finfo(np.float32).tiny)
        noise_variance = max((energy - reachable) / self._noise_dimensions, tiny)
        # At low SNR the difference may vanish; the prior then only has to be small beside what the
        # pilots can resolve.
        signal_power = max(energy / z.size - noise_variance, 1e-3 * noise_variance)
        return grouped, projected, noise_variance, signal_power


class _LinearInterpolation:
    """Linear interpolation from ascending nodes to fixed places."""

    def __init__(self, nodes: FloatArray, places: IntArray) -> None:
        self.left = np.clip(np.searchsorted(nodes, places, side="right") - 1, 0, nodes.size - 2)
        self.weight = (places - nodes[self.left]) / np.diff(nodes)[self.left]

    def __call__(self, values: npt.NDArray) -> npt.NDArray:
        """(nodes,) float32 or complex64 values to (places,) values of the same type."""
        return _interpolate(values, self.left, self.weight)


@numba.njit(cache=True)
def _interpolate(
    values: npt.NDArray, left: IntArray, weight: FloatArray
) -> npt.NDArray:  # pragma: no cover - compiled
    result = np.empty(left.size, dtype=values.dtype)
    for place in range(left.size):
        node = left[place]
        result[place] = (1 - weight[place]) * values[node] + weight[place] * values[node + 1]
    return result


def known_channel(
    least_squares: npt.NDArray[np.complex64],
    known_gain: npt.NDArray[np.complex64],
    wanted_gain: npt.NDArray[np.complex64],
) -> ChannelEstimate:
    """Perfect channel knowledge: the gain is given, only the noise variance is estimated.

    Arguments:
        least_squares: (K,) complex z = y conj(x) at the known symbols.
        known_gain: (K,) true gains there.
        wanted_gain: (n,) true gains at the data symbols.

    Returns:
        An estimate without estimation error.
    """
    z = np.asarray(least_squares, dtype=np.complex128)
    noise_variance = float(np.mean(np.abs(z - known_gain) ** 2))
    return ChannelEstimate(
        gain=wanted_gain,
        error_variance=np.zeros(wanted_gain.size, dtype=np.float32),
        noise_variance=max(noise_variance, float(np.finfo(np.float32).tiny)),
        signal_power=max(float(np.mean(np.abs(known_gain) ** 2)), np.finfo(np.float64).tiny),
        doppler=None,
        evm=error_vector_magnitude(z, known_gain),
        errors=squared_errors(z, known_gain),
    )


def squared_errors(
    least_squares: npt.NDArray[np.complexfloating], gain: npt.NDArray[np.complexfloating]
) -> FloatArray:
    """|y - gain x|^2 of unit-modulus x, float64."""
    error = (least_squares - gain).astype(np.complex128)
    squares: FloatArray = error.real**2 + error.imag**2
    return squares


def error_vector_magnitude(
    least_squares: npt.NDArray[np.complexfloating], gain: npt.NDArray[np.complexfloating]
) -> float:
    """RMS of |y - gain x| over the RMS of |gain x|, for unit-modulus x."""
    reference = max(float(np.sum(np.abs(gain) ** 2)), np.finfo(np.float64).tiny)
    return float(np.sqrt(np.sum(squared_errors(least_squares, gain)) / reference))
