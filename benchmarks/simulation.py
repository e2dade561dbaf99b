"""Frames sent over radio paths, with what only a simulation knows of them.

All benchmarks of the receiver use QPSK 1/2 in frames of the longest kind, 8192 data symbols, at
1 Msymbol/s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.genie import genie_of
from phy import (
    Chain,
    FrameHeader,
    MessageLayout,
    RadioPath,
    ReceiverConfig,
    Transmitter,
    TransmitterConfig,
)
from phy.crc import CRC24A
from phy.impairments import AdditiveNoise
from phy.message import DIGEST_BYTES, block_codec
from phy.synchronization import Synchronization
from phy.waveform import ComplexArray, Reception, Waveform

MCS = "qpsk-1/2"
DATA_SYMBOLS = 8192
"""Of the longest frame, by default."""
SYMBOL_RATE_HZ = 1e6

Draw = Callable[[np.random.Generator, float], RadioPath]
"""A radio path without noise: of its random draws and the sample rate."""


def longest_message(frames: int) -> int:
    """Bytes of the message that fills so many frames of a transport block to the last symbol."""
    return (frames * DATA_SYMBOLS - CRC24A.degree) // 8 - DIGEST_BYTES


@dataclass(frozen=True)
class Burst:
    """Frames without a gap between two stretches of silence.

    Attributes:
        samples: (n,) complex64, as sent.
        starts: where the first symbol of each frame lies in them, by the frames' numbers.
    """

    samples: ComplexArray
    starts: dict[int, int]


@dataclass(frozen=True)
class Transmission:
    """A message of one transport block.

    Attributes:
        waveform: of its frames.
        message: its bytes.
        layout: how it was cut into frames.
        bursts: its frames.
    """

    waveform: Waveform
    message: bytes
    layout: MessageLayout
    bursts: tuple[Burst, ...]

    @classmethod
    def of(
        cls,
        waveform: Waveform,
        message: bytes,
        lead: int,
        tail: int,
        frames: int = 1,
        apart: bool = False,
    ) -> Transmission:
        """Sends a message.

        Args:
            waveform: of its frames.
            message: at most :func:`longest_message` bytes.
            lead: samples of silence before a burst.
            tail: and after it.
            frames: of the transport block.
            apart: every frame is a burst of its own.
        """
        transmitter = Transmitter(TransmitterConfig(MCS, frames, DATA_SYMBOLS, waveform))
        before, after = (np.zeros(count, dtype=np.complex64) for count in (lead, tail))
        first = genie_of(waveform).lead
        bursts = []
        parts, starts = [before], {}
        layout = transmitter.layout(len(message))
        for number, part in enumerate(transmitter.send(message)):
            starts[number] = sum(done.size for done in parts) + first
            parts.append(part)
            if apart or number == layout.frame_count - 1:
                samples = np.concatenate([*parts, transmitter.flush(), after])
                bursts.append(Burst(samples, starts))
                parts, starts = [before], {}
        return cls(waveform, message, layout, tuple(bursts))

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second."""
        return SYMBOL_RATE_HZ * self.waveform.samples_per_symbol

    def header(self, frame: int) -> FrameHeader:
        """Of one of its frames."""
        return self.layout.header(0, 0, frame)

    def decodes(self, receptions: dict[int, Reception]) -> bool:
        """Whether the message comes back from the payloads of its frames."""
        llr = {
            frame: self.layout.mcs.modulation.demap(
                reception.symbols,
                reception.channel.effective_noise_variance,
                reception.channel.gain,
            )
            for frame, reception in receptions.items()
        }
        iterations = ReceiverConfig().max_iterations
        result = block_codec(self.layout).decode(llr, 0, 0, iterations)
        return result.ok and np.packbits(result.bits).tobytes().startswith(self.message)


def with_noise(path: RadioPath, noise: AdditiveNoise) -> RadioPath:
    """The same path with noise at the receiver's input."""
    return replace(path, propagation=replace(path.propagation, noise=noise))


def passed(chain: Chain, samples: npt.ArrayLike) -> ComplexArray:
    """All that comes out of a chain for a burst of samples."""
    return np.concatenate([chain.process(samples), chain.flush()])


def true_synchronization(path: RadioPath, start: int, sample_rate_hz: float) -> Synchronization:
    """Start, carrier and clock of a frame behind a radio path.

    A fast converter takes more samples of the same time, and each of them turns less.

    Args:
        path: with offsets at the receiver's side only.
        start: where the frame's first symbol was sent, in samples.
        sample_rate_hz: samples a second.

    Raises:
        ValueError: offsets at the transmitter's side.
    """
    if path.transmitter.clock is not None or path.transmitter.carrier is not None:
        raise ValueError("the offsets are expected at the receiver's side")
    carrier, clock = path.receiver.carrier, path.receiver.clock
    delay = path.propagation.delay
    late = start if delay is None else start + delay.delay_samples
    cycles = 0.0 if carrier is None else carrier.carrier_offset_hz / sample_rate_hz
    slow = 0.0 if clock is None else 1e-6 * clock.clock_offset_ppm
    return Synchronization(late * (1 + slow), cycles / (1 + slow), slow)
