"""Types of samples in a file: SigMF's datatypes, and what their codes stand for.

A datatype is ``c`` or ``r`` (complex, I and Q in turn; or real), the type of the numbers (``f32``,
``f64``, ``i8``, ``i16``, ``i32``, ``u8``, ``u16``, ``u32``), and the order of their bytes, ``_le``
or ``_be``, little-endian if it is not given. The names of :mod:`hw_profiles.sample_format` are
understood as well: ``cs8`` is ``ci8``.

Examples:
    >>> SampleType.named("cs16").decode(b"\\x00\\x40\\x00\\xc0")
    array([0.5-0.5j], dtype=complex64)
    >>> SampleType.named("ci16_be").decode(b"\\x40\\x00\\xc0\\x00")
    array([0.5-0.5j], dtype=complex64)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgraphs.stream import ComplexArray, EndpointError
from hw_profiles.profile import SampleFormat
from hw_profiles.sample_format import NativeFormat

_NAME = re.compile(r"(c|r)(f32|f64|[ius]8|[ius]16|[ius]32)(_le|_be)?")
_NATIVE = {
    SampleFormat.CF32: "cf32_le",
    SampleFormat.CS16: "ci16_le",
    SampleFormat.CS8: "ci8",
    SampleFormat.CU8: "cu8",
}


class CaptureError(EndpointError):
    """A capture cannot be read or written; the message says which, and why."""


@dataclass(frozen=True)
class SampleType:
    """A datatype with its scale: a code c stands for (c - zero) / full_scale * amplitude.

    Attributes:
        name: as SigMF writes it.
        dtype: of I and Q.
        real: there is no Q; it counts as 0.
        zero: the code of 0.
        full_scale: the distance from there to the code of full scale.
        amplitude: of I or Q at full scale.
    """

    name: str
    dtype: np.dtype[Any]
    real: bool
    zero: float
    full_scale: float
    amplitude: float = 1.0

    @classmethod
    def named(cls, name: str) -> SampleType:
        """The type of a name, with full scale at the end of its codes, and that as 1.

        Raises:
            CaptureError: no such type.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise CaptureError(
                f"unknown sample type {name[:40]!r}; for example cf32_le, ci16_le, ci8, cu8"
            )
        kind, number, order = match[1], match[2].replace("s", "i"), match[3] or "_le"
        size = int(number[1:]) // 8
        dtype = np.dtype(f"{'>' if order == '_be' else '<'}{number[0]}{size}")
        largest = 1.0 if number[0] == "f" else 2.0 ** (8 * size - 1)
        zero = largest if number[0] == "u" else 0.0
        plain = f"{kind}{number}{order if size > 1 else ''}"
        if plain == _NATIVE[SampleFormat.CU8]:
            zero = NativeFormat(SampleFormat.CU8, largest).zero
        return cls(plain, dtype, kind == "r", zero, largest)

    @classmethod
    def of(cls, native: NativeFormat, amplitude: float = 1.0) -> SampleType:
        """The type in which a front end's samples are written.

        Arguments:
            native: of the front end.
            amplitude: of I or Q that is full scale.
        """
        plain = cls.named(_NATIVE[native.sample_format])
        return replace(plain, zero=native.zero, full_scale=native.full_scale, amplitude=amplitude)

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of one channel."""
        return self.dtype.itemsize * (1 if self.real else 2)

    @property
    def converter_full_scale(self) -> float | None:
        """Amplitude of I or Q at which the codes end; None for floating-point numbers."""
        return None if self.dtype.kind == "f" else self.amplitude

    def decode(self, data: bytes, channel: int = 0, channels: int = 1) -> ComplexArray:
        """Samples of a channel.

        Arguments:
            data: whole samples of all channels, which take turns.
            channel: which of them.
            channels: how many there are.

        Returns:
            (n,) complex64.
        """
        codes = np.frombuffer(data, self.dtype)
        if channels > 1:
            codes = codes.reshape(-1, channels, 1 if self.real else 2)[:, channel].reshape(-1)
        values = self._scaled(codes)
        if not self.real:
            return values.view(np.complex64)
        return values.astype(np.complex64)

    def _scaled(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """What codes stand for, without the rounding of float32 before the end."""
        if self.dtype.kind == "f" and self.full_scale == self.amplitude:
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(codes, dtype="<f4")
        exact = np.dtype(np.float32 if self.dtype.itemsize < 4 else np.float64)
        values = codes.astype(exact)
        with np.errstate(over="ignore"):  # the receiver counts what is infinite
            values -= self.zero
            values /= self.full_scale
            values *= self.amplitude
            return values.astype(np.float32, copy=False)
