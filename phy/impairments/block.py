"""What all impairments have in common: parameters, and the stream object made from them.

**Parameters** are frozen dataclasses of plain numbers that carry their units in their names.
:meth:`Impairment.block` makes the stream object for a sample rate and a seed.

**Stream objects** take complex samples in chunks of any size and return complex64 samples; the
output does not depend on the chunking. A block with a filter needs samples past the one that it
computes: its output comes late, but is not shifted in time, and :meth:`SampleBlock.flush` gives
what is left when the input ends.

**Levels.** Decibels are relative to unit mean power, the power of the transmitter's waveform.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from phy.random_process import Seed

ComplexArray = npt.NDArray[np.complex64]

Side = Literal["transmit", "receive"]
"""The end of the link that an oscillator or a mixer belongs to."""


class SampleBlock(ABC):
    """A stage that complex baseband samples pass through, as a stream object."""

    def process(self, samples: npt.ArrayLike) -> ComplexArray:
        """Send the next samples through the stage.

        Arguments:
            samples: (n,) complex, any n.

        Returns:
            (m,) complex64: the output as far as it is certain. m = n unless the stage has a filter
            or changes the sample rate.
        """
        return self._transform(np.ascontiguousarray(samples, dtype=np.complex64).reshape(-1))

    @abstractmethod
    def _transform(self, samples: ComplexArray) -> ComplexArray:
        """:meth:`process` for a contiguous array."""

    def flush(self) -> ComplexArray:
        """End the stream: the output that waits for input, with zeros in place of that input."""
        return np.empty(0, dtype=np.complex64)

    @property
    def clipped_samples(self) -> int:
        """Samples so far of which I or Q exceeded the range of a converter in this stage."""
        return 0


class Impairment(Protocol):
    """Parameters from which a :class:`SampleBlock` can be made."""

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """A stream object in its initial state.

        Arguments:
            sample_rate_hz: samples per second.
            seed: fixes every random draw.
        """
        ...


def require(condition: bool, message: str) -> None:
    """Refuse impossible parameters.

    Raises:
        ValueError: the condition is false, as it is for every comparison with NaN.
    """
    if not condition:
        raise ValueError(message)


def amplitude(level_db: float) -> float:
    """Amplitude ratio of a level in dB."""
    return float(10 ** (level_db / 20))
