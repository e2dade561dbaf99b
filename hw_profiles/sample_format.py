"""Samples on the wire: complex64 to the native types of front ends and back.

A complex sample has full scale where I or Q is 1. A :class:`NativeFormat` turns it into integers,
I and Q in turn, little-endian:

====  =====================================  ==================
type  code of the value x                    codes
====  =====================================  ==================
cu8   x * 128 + 127.4                        0 to 255
cs8   x * full scale, usually 128            up to -128 to 127
cs16  x * full scale, of the direction       up to 16 bits
cf32  x * full scale, usually 1              no limits
====  =====================================  ==================

Codes are rounded to the nearest, and what lies beyond the last one is clipped and counted. A full
scale that is a power of two is that of two's complement: 2048 goes from -2048 to 2047. Others are
the same in both directions: 32767 goes from -32767 to 32767. The offset of cu8 is not in the
middle of the codes, 127.5: it is the mean that the common RTL2832 receivers are measured to have.

Every code comes back to itself through a complex sample.

Examples:
    >>> from hw_profiles.profile import SampleFormat
    >>> from hw_profiles.sample_format import NativeFormat
    >>> pluto = NativeFormat(SampleFormat.CS16, 2048)
    >>> data, clipped = pluto.encode([0.5 - 0.25j, 3j])
    >>> data.tolist(), clipped
    ([1024, -512, 0, 2047], 1)
    >>> pluto.decode(data)
    array([0.5-0.25j     , 0. +0.9995117j], dtype=complex64)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hw_profiles.profile import Direction, SampleFormat

_TYPES: dict[SampleFormat, np.dtype[Any]] = {
    SampleFormat.CF32: np.dtype("<f4"),
    SampleFormat.CS16: np.dtype("<i2"),
    SampleFormat.CS8: np.dtype("i1"),
    SampleFormat.CU8: np.dtype("u1"),
}
_CU8_ZERO = 127.4
_CU8_SCALE = 128.0


class NativeSamples(NamedTuple):
    """Samples as a device takes them.

    Attributes:
        data: (2 n,) I and Q in turn.
        clipped_samples: samples of which I or Q was beyond the codes, or not a number.
    """

    data: npt.NDArray[Any]
    clipped_samples: int


@dataclass(frozen=True)
class NativeFormat:
    """A sample type with its full scale.

    Attributes:
        sample_format: type of I and Q.
        full_scale: the code that stands for 1; cu8 has always 128.
    """

    sample_format: SampleFormat
    full_scale: float

    def __post_init__(self) -> None:
        largest = {SampleFormat.CS16: 32768.0, SampleFormat.CS8: 128.0, SampleFormat.CU8: 128.0}
        if not 0 < self.full_scale <= largest.get(self.sample_format, np.inf):
            raise ValueError(f"full_scale is {self.full_scale}, not one of {self.sample_format}")
        if self.sample_format is SampleFormat.CU8 and self.full_scale != _CU8_SCALE:
            raise ValueError(f"full_scale of cu8 is {_CU8_SCALE:g}, not {self.full_scale:g}")

    @classmethod
    def of(cls, direction: Direction) -> NativeFormat:
        """That of a direction of a front end."""
        return cls(direction.sample_format, direction.full_scale)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of I and Q."""
        return _TYPES[self.sample_format]

    @property
    def codes(self) -> tuple[float, float]:
        """The lowest and the highest code; infinite for cf32."""
        if self.sample_format is SampleFormat.CF32:
            return -np.inf, np.inf
        if self.sample_format is SampleFormat.CU8:
            return 0.0, 255.0
        mantissa, _ = np.frexp(self.full_scale)
        last = self.full_scale - 1 if mantissa == 0.5 else self.full_scale
        return -np.floor(self.full_scale), np.floor(last)

    def encode(self, samples: npt.ArrayLike) -> NativeSamples:
        """Complex samples to native ones.

        Arguments:
            samples: (n,) complex.
        """
        values = np.ascontiguousarray(samples, dtype=np.complex64).reshape(-1).view(np.float32)
        codes = values * np.float32(self.full_scale)
        if self.sample_format is SampleFormat.CF32:
            return NativeSamples(codes.astype(self.dtype), 0)
        codes = np.rint(codes + np.float32(self.zero))
        lowest, highest = self.codes
        beyond = ~((codes >= lowest) & (codes <= highest))  # true for NaN as well
        clipped = int(beyond.reshape(-1, 2).any(axis=1).sum())
        if clipped:
            codes = np.clip(np.nan_to_num(codes, nan=self.zero), lowest, highest)
        return NativeSamples(codes.astype(self.dtype), clipped)

    def decode(self, data: npt.ArrayLike) -> npt.NDArray[np.complex64]:
        """Native samples to complex ones.

        Arguments:
            data: (2 n,) I and Q in turn, of the type that :attr:`dtype` says.

        Returns:
            (n,) complex64.

        Raises:
            ValueError: another type, or an odd number of values.
        """
        native = np.asarray(data).reshape(-1)
        if native.dtype != self.dtype:
            raise ValueError(f"{self.sample_format} has values of {self.dtype}, not {native.dtype}")
        if native.size % 2:
            raise ValueError(f"{native.size} values are not pairs of I and Q")
        values = (native.astype(np.float32) - np.float32(self.zero)) / np.float32(self.full_scale)
        return values.view(np.complex64)

    @property
    def zero(self) -> float:
        """The code of 0."""
        return _CU8_ZERO if self.sample_format is SampleFormat.CU8 else 0.0
