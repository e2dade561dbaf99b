"""What a stream of samples looks like as a whole, for a receiver that found nothing in it.

Of an endless stream a fixed number of short blocks is kept, spread evenly over all that has
passed: whenever they have become too many, every second one is dropped, and from then on only
every second new one is taken. What is kept depends on the samples alone, not on their chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phy.sample_statistics import SampleStatistics

ComplexArray = npt.NDArray[np.complex64]

_BLOCK = 1024
_BLOCKS = 64


@dataclass(frozen=True)
class StreamReport:
    """A stream, or the part of it that has passed.

    Attributes:
        length: samples taken in.
        invalid: of them NaN, infinite or above 1e15, replaced by 0.
        samples: statistics of blocks spread over the stream; None of an empty one.
        near_miss: how close to the detector's threshold it came without a detection, 0 to 1.
    """

    length: int
    invalid: int
    samples: SampleStatistics | None
    near_miss: float


class StreamMeter:
    """Keeps blocks of a stream.

    Attributes:
        invalid: samples that had to be replaced, counted by whoever did.
    """

    def __init__(self, full_scale: float | None) -> None:
        """Start at the beginning of a stream; see :class:`phy.sample_statistics.SampleStatistics`.

        Arguments:
            full_scale: of the converter, or None.
        """
        self.invalid = 0
        self._full_scale = full_scale
        self._length = 0
        self._stride = 1  # every so many blocks are kept
        self._blocks: list[ComplexArray] = []  # full but for the last one

    def process(self, samples: ComplexArray) -> None:
        """Take in (n,) complex64 samples."""
        taken = 0
        while taken < samples.size:
            number, filled = divmod(self._length, _BLOCK)
            count = min(_BLOCK - filled, samples.size - taken)
            if number % self._stride == 0:
                if filled == 0:
                    self._blocks.append(np.empty(_BLOCK, dtype=np.complex64))
                self._blocks[-1][filled : filled + count] = samples[taken : taken + count]
            self._length += count
            taken += count
            if len(self._blocks) == _BLOCKS and self._length % _BLOCK == 0:
                self._stride *= 2
                self._blocks = self._blocks[::2]

    def report(self, near_miss: float) -> StreamReport:
        """The stream so far; `near_miss` is the detector's."""
        kept = np.concatenate([np.empty(0, dtype=np.complex64), *self._blocks])
        number, filled = divmod(self._length, _BLOCK)
        if filled and number % self._stride == 0:
            kept = kept[: kept.size - _BLOCK + filled]
        statistics = SampleStatistics.of(kept, self._full_scale) if kept.size else None
        return StreamReport(self._length, self.invalid, statistics, near_miss)
