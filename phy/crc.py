"""Cyclic redundancy checks of 5G NR (TS 38.212, clause 5.1).

A CRC of degree L treats the bits a_0 .. a_{k-1} as a polynomial over GF(2), highest power first,
and appends the remainder of a(D) D^L divided by the generator g(D). The whole word is then a
multiple of g(D), which is what the receiver tests. The register starts at zero, so zeros in front
of a word leave its remainder unchanged; this lets words of any length be read byte by byte.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

_REGISTER_BITS = 32  # one register width for all generators, which are aligned to its left edge


@dataclass(frozen=True)
class CrcPolynomial:
    """A CRC generator polynomial.

    Arguments:
        name: Name in the standard, for example `"CRC24A"`.
        degree: Number L of parity bits.
        coefficients: Coefficients of g(D) without the leading D^L, as an integer whose bit i
            belongs to D^i.
    """

    name: str
    degree: int
    coefficients: int

    @cached_property
    def byte_table(self) -> NDArray[np.uint32]:
        """Remainder of each byte, shape (256,), uint32, aligned to the left of 32 bits."""
        generator = np.uint32(self.coefficients << (_REGISTER_BITS - self.degree))
        register = np.arange(256, dtype=np.uint32) << np.uint32(_REGISTER_BITS - 8)
        for _ in range(8):
            carry = register >> np.uint32(_REGISTER_BITS - 1) == 1
            register = (register << np.uint32(1)) ^ np.where(carry, generator, np.uint32(0))
        return register


CRC24A = CrcPolynomial("CRC24A", 24, 0x864CFB)
CRC24B = CrcPolynomial("CRC24B", 24, 0x800063)
CRC24C = CrcPolynomial("CRC24C", 24, 0xB2B117)
CRC16 = CrcPolynomial("CRC16", 16, 0x1021)
CRC11 = CrcPolynomial("CRC11", 11, 0x621)
CRC6 = CrcPolynomial("CRC6", 6, 0x21)


def as_bits(bits: ArrayLike) -> NDArray[np.uint8]:
    """Checks that an array holds bits, and gives it as uint8.

    Arguments:
        bits: Integers or booleans, any shape.

    Returns:
        The same values, uint8; the array itself where it already was uint8.

    Raises:
        ValueError: If a value is neither 0 nor 1, or the type is not integer or boolean.
    """
    array = np.asarray(bits)
    if array.dtype.kind not in "bui":
        raise ValueError(f"bits must be integers or booleans, not {array.dtype}")
    if array.size and (array.max() > 1 or array.min() < 0):
        raise ValueError("bits must be 0 or 1")
    return array.astype(np.uint8, copy=False)


def crc_remainder(bits: ArrayLike, polynomial: CrcPolynomial) -> NDArray[np.uint8]:
    """Parity bits of a CRC (TS 38.212, 5.1).

    Arguments:
        bits: Bits, shape [..., k], first bit first.
        polynomial: Generator, one of `CRC24A`, `CRC24B`, `CRC24C`, `CRC16`, `CRC11`, `CRC6`.

    Returns:
        Parity bits p_0 .. p_{L-1}, shape [..., L], uint8.

    Raises:
        ValueError: If `bits` holds anything but 0 and 1, or has no dimension.

    Examples:
        >>> crc_remainder([1, 0, 1], CRC6)
        array([0, 0, 0, 1, 1, 0], dtype=uint8)
    """
    words = as_bits(bits)
    if words.ndim == 0:
        raise ValueError("bits must have at least one dimension")
    rows = words.reshape(int(np.prod(words.shape[:-1])), words.shape[-1])
    # Zeros in front complete the first byte without changing the remainder.
    leading = np.zeros((rows.shape[0], -rows.shape[1] % 8), dtype=np.uint8)
    octets = np.packbits(np.concatenate([leading, rows], axis=1), axis=1)
    registers = _divide(octets, polynomial.byte_table)
    shifts = np.arange(_REGISTER_BITS - 1, _REGISTER_BITS - 1 - polynomial.degree, -1)
    parity = (registers[:, np.newaxis] >> shifts.astype(np.uint32)) & np.uint32(1)
    return parity.astype(np.uint8).reshape(*words.shape[:-1], polynomial.degree)


def crc_attach(bits: ArrayLike, polynomial: CrcPolynomial) -> NDArray[np.uint8]:
    """Appends the CRC to each word.

    Arguments:
        bits: Bits, shape [..., k].
        polynomial: Generator.

    Returns:
        Bits followed by their parity, shape [..., k + L], uint8.

    Raises:
        ValueError: As `crc_remainder`.
    """
    words = as_bits(bits)
    return np.concatenate([words, crc_remainder(words, polynomial)], axis=-1)


def crc_check(bits: ArrayLike, polynomial: CrcPolynomial) -> NDArray[np.bool_]:
    """Tests the CRC at the end of each word.

    The all-zero word always passes: a caller that may meet it without a sender must test for it.

    Arguments:
        bits: Bits with parity, shape [..., k + L].
        polynomial: Generator.

    Returns:
        True where the word is a multiple of the generator, shape [...], bool.

    Raises:
        ValueError: As `crc_remainder`, and for words shorter than the parity.
    """
    words = as_bits(bits)
    if words.ndim == 0 or words.shape[-1] < polynomial.degree:
        raise ValueError(f"words must hold at least the {polynomial.degree} parity bits")
    return np.asarray(~crc_remainder(words, polynomial).any(axis=-1))


@njit(nogil=True, cache=True)
def _divide(octets, byte_table):  # type: ignore[no-untyped-def]
    """Registers after long division of each row of bytes, shape (words,), uint32."""
    registers = np.zeros(octets.shape[0], dtype=np.uint32)
    for word in range(octets.shape[0]):
        register = np.uint32(0)
        for octet in octets[word]:
            index = (register >> np.uint32(24)) ^ np.uint32(octet)
            register = np.uint32(register << np.uint32(8)) ^ byte_table[index]
        registers[word] = register
    return registers
