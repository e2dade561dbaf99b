"""Interferers: other signals in the band, for a time or always."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phy.impairments.block import ComplexArray, SampleBlock, amplitude, require
from phy.impairments.noise import Adder
from phy.impairments.oscillator import CarrierOffset
from phy.random_process import BLOCK, Seed, shaped_gaussian

_NARROWEST = 2**-16  # bandwidth over sample rate


@dataclass(frozen=True)
class Burst:
    """What all interferers have.

    Attributes:
        level_db: mean power while it lasts, relative to unit power.
        frequency_hz: its centre in the baseband.
        start_s: beginning.
        duration_s: length; ``inf`` for ever.
    """

    level_db: float
    frequency_hz: float = 0.0
    start_s: float = 0.0
    duration_s: float = np.inf

    def __post_init__(self) -> None:
        require(self.level_db < np.inf, f"level_db is {self.level_db}")
        require(np.isfinite(self.frequency_hz), f"frequency_hz is {self.frequency_hz}")
        require(0 <= self.start_s < np.inf, f"start_s is {self.start_s}")
        require(self.duration_s >= 0, f"duration_s is {self.duration_s}")

    def _adder(self, signal: Iterator[ComplexArray], sample_rate_hz: float) -> SampleBlock:
        """Adds a signal of unit power at the level and in the time of the burst."""

        def terms() -> Iterator[ComplexArray]:
            start, stop = (
                sample_rate_hz * t for t in (self.start_s, self.start_s + self.duration_s)
            )
            scale = np.float32(amplitude(self.level_db))
            position = 0
            for block in signal:
                places = np.arange(position, position + block.size)
                yield block * np.where((places >= start) & (places < stop), scale, np.float32(0))
                position += block.size

        return Adder(terms())


@dataclass(frozen=True)
class ToneInterferer(Burst):
    """An unmodulated carrier."""

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`; the seed fixes the phase."""
        phase_deg = float(np.random.default_rng(seed).uniform(0, 360))
        tone = CarrierOffset(self.frequency_hz, carrier_phase_deg=phase_deg)
        return self._adder(tone.carrier(sample_rate_hz), sample_rate_hz)


@dataclass(frozen=True)
class NoiseInterferer(Burst):
    """Gaussian noise of a limited band, as another modulated signal looks from outside.

    Attributes:
        bandwidth_hz: width of its flat spectrum.
    """

    bandwidth_hz: float = 100e3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.bandwidth_hz < np.inf, f"bandwidth_hz is {self.bandwidth_hz}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`.

        Raises:
            ValueError: a band that reaches beyond half the sample rate, or one narrower than
                1/65536 of the rate.
        """
        require(
            abs(self.frequency_hz) + self.bandwidth_hz / 2 <= sample_rate_hz / 2,
            "the band of an interferer reaches beyond half the sample rate",
        )
        require(
            self.bandwidth_hz >= _NARROWEST * sample_rate_hz,
            f"a bandwidth of {self.bandwidth_hz} Hz is too narrow for the sample rate",
        )
        return self._adder(self._noise(sample_rate_hz, np.random.default_rng(seed)), sample_rate_hz)

    def _noise(self, sample_rate_hz: float, rng: np.random.Generator) -> Iterator[ComplexArray]:
        # At least 16 frequencies in the band, so that its edges are steep beside its width.
        lines = 16 * sample_rate_hz / self.bandwidth_hz
        length = max(BLOCK, 2 ** int(np.ceil(np.log2(lines))))
        frequency = np.fft.fftfreq(length, 1 / sample_rate_hz)
        inside = np.abs(frequency - self.frequency_hz) <= self.bandwidth_hz / 2
        for noise in shaped_gaussian(inside / inside.mean(), rng):
            yield noise.astype(np.complex64)
