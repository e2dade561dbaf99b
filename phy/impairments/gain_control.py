r"""Automatic gain control.

The loop measures the mean power of its output over windows of fixed length, as the gain control of
a transceiver chip does, and changes the gain at their ends by a share of the error in decibels,

.. math:: g \leftarrow g + (L_\mathrm{target} - L_\mathrm{measured})\,(1 - e^{-T/\tau}),

with the window's length T and the time constant :math:`\tau` of attack (too loud) or of decay.
After a step of the input the level so approaches the target as :math:`e^{-t/\tau}`, in steps. In
silence the gain grows to its limit, and the beginning of the next burst is too loud.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from phy.impairments.block import ComplexArray, SampleBlock, require
from phy.random_process import Seed


@dataclass(frozen=True)
class GainControl:
    """An automatic gain control.

    Attributes:
        target_level_db: mean power to reach, relative to unit power.
        attack_s: time constant with which too high a level falls.
        decay_s: time constant with which too low a level rises.
        window_s: time over which power is measured, and between two changes of the gain.
        initial_gain_db: gain at the start.
        gain_min_db, gain_max_db: limits of the gain.
    """

    target_level_db: float = 0.0
    attack_s: float = 100e-6
    decay_s: float = 10e-3
    window_s: float = 20e-6
    initial_gain_db: float = 0.0
    gain_min_db: float = -60.0
    gain_max_db: float = 60.0

    def __post_init__(self) -> None:
        require(abs(self.target_level_db) < np.inf, f"target_level_db is {self.target_level_db}")
        for name in ("attack_s", "decay_s", "window_s"):
            value = getattr(self, name)
            require(0 < value < np.inf, f"{name} must be positive, not {value}")
        require(
            -200 <= self.gain_min_db <= self.initial_gain_db <= self.gain_max_db <= 200,
            "initial_gain_db must lie between gain_min_db and gain_max_db, and these within 200 dB",
        )

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return _GainLoop(self, sample_rate_hz)


class _GainLoop(SampleBlock):
    """The stream object of :class:`GainControl`."""

    def __init__(self, parameters: GainControl, sample_rate_hz: float) -> None:
        window = max(1, round(parameters.window_s * sample_rate_hz))
        seconds = window / sample_rate_hz
        self._loop = (
            float(window),
            float(parameters.target_level_db),
            float(-np.expm1(-seconds / parameters.attack_s)),
            float(-np.expm1(-seconds / parameters.decay_s)),
            float(parameters.gain_min_db),
            float(parameters.gain_max_db),
        )
        # Gain in dB, samples of the window so far, and their energy.
        self._state = np.array([parameters.initial_gain_db, 0.0, 0.0])

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return _control(samples, self._state, self._loop)


@numba.njit(cache=True)
def _control(
    samples: ComplexArray, state: np.ndarray, loop: tuple[float, float, float, float, float, float]
) -> ComplexArray:  # pragma: no cover - compiled
    """Run the loop, and leave its state for the next samples; see :class:`_GainLoop`."""
    window, target, attack, decay, lowest, highest = loop
    gain_db, seen, energy = state
    output = np.empty_like(samples)
    gain = np.float32(10 ** (gain_db / 20))
    for n in range(samples.size):
        i, q = samples[n].real * gain, samples[n].imag * gain
        output[n] = complex(i, q)
        energy += float(i) ** 2 + float(q) ** 2
        seen += 1
        if seen == window:
            error = target - 10 * np.log10(max(energy / window, 1e-30))
            gain_db += error * (attack if error < 0 else decay)
            gain_db = min(max(gain_db, lowest), highest)
            gain = np.float32(10 ** (gain_db / 20))
            seen = energy = 0.0
    state[0], state[1], state[2] = gain_db, seen, energy
    return output
