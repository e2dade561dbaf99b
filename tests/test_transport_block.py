import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sionna.phy.nr import TBEncoder
from sionna.phy.nr.utils import calculate_tb_size

from phy.ldpc import LdpcCode
from phy.transport_block import TransportBlockCode


def random_bits(length: int) -> NDArray[np.uint8]:
    return np.random.default_rng(length).integers(0, 2, length, dtype=np.uint8)


@pytest.mark.parametrize(
    ("coded_bits", "rate", "bits_per_symbol"),
    [
        (200, 0.3, 2),  # CRC-16, base graph 2
        (6000, 0.5, 4),  # CRC-16, base graph 2
        (5400, 0.69, 6),  # CRC-16, base graph 1
        (14_000, 0.5, 2),  # CRC-24A, one block
        (60_000, 0.6, 4),  # several blocks
        (60_006, 0.6, 6),  # blocks of two lengths E_r
        (99_992, 0.9, 8),
        (50_000, 0.22, 2),  # base graph 2, several blocks
    ],
)
def test_equals_sionna(coded_bits: int, rate: float, bits_per_symbol: int) -> None:
    payload_bits = int(
        calculate_tb_size(
            modulation_order=bits_per_symbol, target_coderate=rate, num_coded_bits=coded_bits
        )[0]
    )
    theirs = TBEncoder(payload_bits, coded_bits, rate, bits_per_symbol, use_scrambler=False)
    assert theirs.k_padding == 0
    bits = random_bits(payload_bits)
    expected = theirs(torch.from_numpy(bits[np.newaxis]).float()).numpy()[0]
    code = TransportBlockCode(payload_bits, coded_bits, bits_per_symbol, rate)
    assert code.segmentation.block_count == theirs.num_cbs
    np.testing.assert_array_equal(code.encode(bits), expected)


@pytest.mark.parametrize(
    ("payload_bits", "coded_bits", "bits_per_symbol", "rv"),
    [
        (1, 40, 2, 0),
        (8, 60, 2, 0),
        (8, 4000, 4, 3),  # heavy repetition
        (292, 620, 2, 0),
        (3824, 8000, 2, 0),
        (3825, 8000, 4, 0),
        (8424, 10_000, 2, 0),
        (8425, 20_000, 8, 3),
        (50_001, 100_002, 6, 0),  # sizes that do not divide into equal blocks
        (20_000, 100_000, 4, 2),  # base graph 2, all of the buffer sent
        (2_000_003, 2_400_000, 2, 0),
    ],
)
def test_noise_free_blocks_come_back(
    payload_bits: int, coded_bits: int, bits_per_symbol: int, rv: int
) -> None:
    code = TransportBlockCode(payload_bits, coded_bits, bits_per_symbol)
    bits = random_bits(payload_bits)
    sent = code.encode(bits, rv)
    assert sent.shape == (coded_bits,)
    assert sent.dtype == np.uint8
    assert sum(code.block_lengths) == coded_bits
    assert all(length % bits_per_symbol == 0 for length in code.block_lengths)
    result = code.decode(6 * (1 - 2.0 * sent), rv=rv, threads=2)
    assert result.ok is True
    np.testing.assert_array_equal(result.bits, bits)
    blocks = code.segmentation.block_count
    assert result.code_block_ok.shape == result.iterations.shape == (blocks,)
    assert result.code_block_ok.all()


def test_noisy_blocks_come_back() -> None:
    code = TransportBlockCode(30_000, 60_000, 2)
    bits = random_bits(30_000)
    variance = 1 / (2 * 0.5 * 10 ** (2.0 / 10))  # Eb/N0 = 2 dB
    noise = np.random.default_rng(1).standard_normal(60_000) * np.sqrt(variance)
    result = code.decode(2 * (1 - 2.0 * code.encode(bits) + noise) / variance)
    assert result.ok
    np.testing.assert_array_equal(result.bits, bits)
    assert (result.iterations > 1).all()


def test_a_lost_code_block_is_named() -> None:
    code = TransportBlockCode(30_000, 60_000, 2)
    llr = 6 * (1 - 2.0 * code.encode(random_bits(30_000)))
    first = sum(code.block_lengths[:2])
    llr[first : first + code.block_lengths[2]] = np.random.default_rng(2).normal(
        size=code.block_lengths[2]
    )
    result = code.decode(llr, max_iterations=5)
    assert result.ok is False
    np.testing.assert_array_equal(result.code_block_ok, [True, True, False, True])
    np.testing.assert_array_equal(result.iterations[[0, 1, 3]] < 5, True)


@pytest.mark.parametrize("payload_bits", [8, 3000, 30_000])
def test_noise_and_silence_are_never_a_block(payload_bits: int) -> None:
    code = TransportBlockCode(payload_bits, 2 * payload_bits + 48, 2)
    rng = np.random.default_rng(3)
    assert not code.decode(np.zeros(code.coded_bits), max_iterations=3).ok
    for _ in range(20):
        assert not code.decode(4 * rng.standard_normal(code.coded_bits), max_iterations=3).ok


def test_a_valid_word_with_a_wrong_crc_is_refused() -> None:
    code = TransportBlockCode(1000, 2048, 2)
    block = np.concatenate([random_bits(1000), np.ones(16, dtype=np.uint8)])
    without_crc = LdpcCode(1016, 2048, 2, code.segmentation.base_graph)
    result = code.decode(6 * (1 - 2.0 * without_crc.encode(block)))
    assert not result.ok
    assert not result.code_block_ok.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 100, 2), "payload_bits"),
        ((100, 201, 2), "multiple"),
        ((100, 200, 0), "multiple"),
        ((100, 0, 2), "too few"),
        ((100, 120, 2), "too few"),
        ((100_000, 105_000, 2), "too few"),
        ((100, 200, 2, 1.5), "rate"),
    ],
)
def test_impossible_codes_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransportBlockCode(*arguments)


def test_impossible_arguments_are_refused() -> None:
    code = TransportBlockCode(100, 400, 2)
    with pytest.raises(ValueError, match="shape"):
        code.encode(np.zeros(99, dtype=np.uint8))
    with pytest.raises(ValueError, match="0 or 1"):
        code.encode(np.full(100, 3))
    with pytest.raises(ValueError, match="shape"):
        code.decode(np.zeros(398))
    with pytest.raises(ValueError, match="NaN"):
        code.decode(np.full(400, np.nan))
