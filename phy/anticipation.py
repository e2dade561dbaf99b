r"""Frames whose header a fade has taken: anticipated from the frame before.

A sender's frames follow each other without a gap, and each header says where in the message its
frame belongs, so the next frame's place and header are known in advance. Reading a header takes
-5 dB; telling whether one known word of 1600 bits is there takes much less, and needs no preamble
either. So a frame of which only the beginning lies in a fade is not lost as a whole.

The test is the correlation of the header's LLRs with the word's signs,

.. math:: t = \sum_i s_i L_i \Big/ \sqrt{\sum_i L_i^2},

which is close to a standard normal value in noise. Words of other headers differ in 550 of the 1600
places and more, so that of two headers at the same place the other one reaches a third of what the
true one does, :math:`\sum_i |L_i| \tanh(|L_i| / 2)` before the division: what is taken has to reach
two thirds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from phy.detection import Detection
from phy.frame import FrameHeader, header_word
from phy.waveform import Reception, Waveform

_LEAST_DEVIATIONS = 6.0  # by which a header must stand out: 1e-9 that chance does
_LEAST_SHARE = 2 / 3  # of what the true header would reach
_MOST_MISSES = 4  # anticipated frames that were not there, after which the sender has stopped
_NEAR = 2  # symbols by which a detection may differ from the place where its frame is anticipated


def successor(header: FrameHeader) -> FrameHeader | None:
    """The header of the frame that a sender sends next, None where that cannot be known.

    Behind the last block of a message, and in a retransmission behind any block, another follows of
    which this header says nothing.
    """
    if header.frame_index + 1 < header.frame_count:
        return replace(header, frame_index=header.frame_index + 1)
    if header.round == 0 and header.block_index + 1 < header.block_count:
        return replace(header, block_index=header.block_index + 1, frame_index=0)
    return None


def header_match(llr: npt.NDArray[np.float32], header: FrameHeader) -> tuple[float, float]:
    """How well a header fits soft bits.

    Arguments:
        llr: (1600,) float32, log p(0) / p(1) of the header section.
        header: the one that is looked for.

    Returns:
        Its correlation in standard deviations of noise, and relative to the mean of the true one.
    """
    values = llr.astype(np.float64)
    agreement = float(np.sum(np.where(header_word(header) == 1, -values, values)))
    size = np.abs(values)
    deviation = float(np.sqrt(np.sum(size**2)))
    return agreement / max(deviation, 1e-30), agreement / max(
        float(np.sum(size * np.tanh(size / 2))), 1e-30
    )


def is_there(llr: npt.NDArray[np.float32], header: FrameHeader) -> bool:
    """Whether a header is what soft bits hold, and not noise or another one; see the module."""
    deviations, share = header_match(llr, header)
    return deviations > _LEAST_DEVIATIONS and share > _LEAST_SHARE


@dataclass(frozen=True)
class Anticipation:
    """A frame that should come.

    Attributes:
        header: which.
        detection: where; its `anticipated` is set.
        reach: samples to either side in which a detection is taken to be of this frame.
        misses: frames anticipated before this one that were not there, one after the other.
    """

    header: FrameHeader
    detection: Detection
    reach: int
    misses: int = 0

    @classmethod
    def behind(
        cls, header: FrameHeader, reception: Reception, waveform: Waveform
    ) -> Anticipation | None:
        """The frame behind one that was received; None if which it is cannot be known."""
        following = successor(header)
        if following is None or reception.start is None:
            return None
        at = Detection(
            index=round(reception.start),
            metric=0.0,
            start=reception.start,
            carrier=reception.carrier or 0.0,
            anticipated=True,
            clock=reception.clock or 0.0,
        )
        return cls(following, at, 0)._moved(header, waveform, 0)

    def missed(self, waveform: Waveform) -> Anticipation | None:
        """The frame behind this one, which was not there; None if it is not worth a look."""
        following = successor(self.header)
        if following is None or self.misses + 1 == _MOST_MISSES:
            return None
        return replace(self, header=following)._moved(self.header, waveform, self.misses + 1)

    def _moved(self, before: FrameHeader, waveform: Waveform, misses: int) -> Anticipation:
        """By the length of the frame before."""
        M = waveform.samples_per_symbol
        length = M * (1 + self.detection.clock) * waveform.frame_symbols(before.data_symbols)
        start = self.detection.start + length
        at = replace(self.detection, index=round(start), start=start)
        return replace(self, detection=at, reach=_NEAR * M, misses=misses)

    def is_near(self, detection: Detection) -> bool:
        """Whether a detection is of this frame."""
        return abs(detection.index - self.detection.index) <= self.reach
