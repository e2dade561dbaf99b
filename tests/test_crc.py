import numpy as np
import pytest
import torch
from sionna.phy.fec.crc import CRCEncoder

from phy.crc import (
    CRC6,
    CRC11,
    CRC16,
    CRC24A,
    CRC24B,
    CRC24C,
    CrcPolynomial,
    crc_attach,
    crc_check,
    crc_remainder,
)

POLYNOMIALS = [CRC24A, CRC24B, CRC24C, CRC16, CRC11, CRC6]
names = pytest.mark.parametrize("polynomial", POLYNOMIALS, ids=lambda p: p.name)


@pytest.mark.parametrize(
    ("polynomial", "value"),
    # The "check" entries of the public CRC catalogue (CRC-24/LTE-A, CRC-24/LTE-B, CRC-16/XMODEM).
    [(CRC24A, 0xCDE703), (CRC24B, 0x23EF52), (CRC16, 0x31C3)],
    ids=lambda p: getattr(p, "name", None),
)
def test_published_check_values(polynomial: CrcPolynomial, value: int) -> None:
    bits = np.unpackbits(np.frombuffer(b"123456789", dtype=np.uint8))
    parity = crc_remainder(bits, polynomial)
    assert int("".join(map(str, parity)), 2) == value


@names
@pytest.mark.parametrize("length", [1, 5, 8, 40, 333, 8424])
def test_equals_sionna(polynomial: CrcPolynomial, length: int) -> None:
    bits = np.random.default_rng(length).integers(0, 2, (2, 3, length), dtype=np.uint8)
    theirs = CRCEncoder(polynomial.name)(torch.from_numpy(bits).float()).numpy()
    ours = crc_attach(bits, polynomial)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs)


@names
def test_remainder_is_that_of_long_division(polynomial: CrcPolynomial) -> None:
    bits = np.random.default_rng(3).integers(0, 2, 77, dtype=np.uint8)
    value = int("".join(map(str, bits)), 2) << polynomial.degree
    generator = (1 << polynomial.degree) | polynomial.coefficients
    for shift in range(len(bits) - 1, -1, -1):
        if value >> (shift + polynomial.degree) & 1:
            value ^= generator << shift
    parity = crc_remainder(bits, polynomial)
    assert int("".join(map(str, parity)), 2) == value


@names
def test_detects_every_burst_up_to_its_degree(polynomial: CrcPolynomial) -> None:
    word = crc_attach(np.random.default_rng(4).integers(0, 2, 90, dtype=np.uint8), polynomial)
    assert crc_check(word, polynomial)
    rng = np.random.default_rng(5)
    errors = []
    for length in range(1, polynomial.degree + 1):
        for start in range(word.size - length + 1):
            error = np.zeros_like(word)
            error[start : start + length] = rng.integers(0, 2, length)
            error[[start, start + length - 1]] = 1
            errors.append(error)
    assert not crc_check(word ^ np.array(errors), polynomial).any()


def test_batches_keep_their_shape() -> None:
    bits = np.random.default_rng(6).integers(0, 2, (3, 0, 2, 20), dtype=np.uint8)
    assert crc_attach(bits, CRC24C).shape == (3, 0, 2, 44)
    mixed = crc_attach(np.eye(4, dtype=bool), CRC11)
    mixed[2, 1] ^= 1
    np.testing.assert_array_equal(crc_check(mixed, CRC11), [True, True, False, True])


@pytest.mark.parametrize("bits", [[0, 2], [0.0, 1.0], [-1, 0], np.uint8(1)])
def test_refuses_what_is_not_a_bit_sequence(bits: object) -> None:
    with pytest.raises(ValueError, match="bits must"):
        crc_remainder(bits, CRC16)  # type: ignore[arg-type]


def test_check_refuses_words_shorter_than_the_parity() -> None:
    with pytest.raises(ValueError, match="16 parity bits"):
        crc_check(np.zeros(15, dtype=np.uint8), CRC16)
