"""The Gold sequence, the scrambler and the block interleaver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phy.interleaver import BlockInterleaver
from phy.scrambling import descramble, gold_sequence, scramble


def textbook_gold(c_init, length):
    """TS 38.211, 5.2.1, term by term."""
    total = 1600 + length + 31
    x1, x2 = np.zeros(total, int), np.zeros(total, int)
    x1[0] = 1
    x2[:31] = [(c_init >> i) & 1 for i in range(31)]
    for n in range(total - 31):
        x1[n + 31] = (x1[n + 3] + x1[n]) % 2
        x2[n + 31] = (x2[n + 3] + x2[n + 2] + x2[n + 1] + x2[n]) % 2
    return (x1[1600 : 1600 + length] + x2[1600 : 1600 + length]) % 2


@pytest.mark.parametrize("c_init", [0, 1, 0x12345678, 2**31 - 1])
def test_gold_sequence(c_init):
    assert np.array_equal(gold_sequence(c_init, 500), textbook_gold(c_init, 500))


def test_against_sionna():
    utils = pytest.importorskip("sionna.phy.nr.utils")
    for c_init in (3, 77777, 2**30 + 5):
        assert np.array_equal(gold_sequence(c_init, 1000), utils.generate_prng_seq(1000, c_init))


def test_bounds():
    assert gold_sequence(5, 0).size == 0
    for bad in (-1, 2**31):
        with pytest.raises(ValueError, match="c_init"):
            gold_sequence(bad, 10)
    with pytest.raises(ValueError, match="length"):
        gold_sequence(1, -1)


def test_scramble_and_descramble():
    bits = np.random.default_rng(0).integers(0, 2, 999, dtype=np.uint8)
    sent = scramble(bits, 99)
    assert np.array_equal(scramble(sent, 99), bits)
    assert np.array_equal(descramble((1 - 2.0 * sent).astype(np.float32), 99) < 0, bits)


@given(st.sampled_from([1, 2, 4, 6, 8]), st.integers(1, 3000))
def test_interleaver_is_a_permutation(bits_per_symbol, symbols):
    interleaver = BlockInterleaver(bits_per_symbol * symbols, bits_per_symbol)
    data = np.arange(interleaver.size)
    sent = interleaver.interleave(data)
    assert np.array_equal(np.sort(sent), data)
    assert np.array_equal(interleaver.deinterleave(sent), data)
    assert np.array_equal(sent % bits_per_symbol, data % bits_per_symbol), "label places are kept"


@pytest.mark.parametrize(("size", "bits_per_symbol"), [(16 * 8192 * 2, 2), (5 * 7000 * 8, 8)])
def test_interleaver_spreads_code_blocks_and_bursts(size, bits_per_symbol):
    interleaver = BlockInterleaver(size, bits_per_symbol)
    position = interleaver.deinterleave(np.arange(size))
    frames = 16
    run = size // 17
    for start in range(0, size - run, run):
        hits = np.bincount(position[start : start + run] * frames // size, minlength=frames)
        assert hits.min() > 0.97 * run / frames
        assert hits.max() < 1.03 * run / frames
    # A burst of 100 symbols must not hit the same neighbourhood of the code word.
    burst = np.sort(interleaver.interleave(np.arange(size))[: 100 * bits_per_symbol])
    assert np.diff(burst[::bits_per_symbol]).min() > 50


def test_interleaver_refuses_ragged_size():
    with pytest.raises(ValueError, match="multiple"):
        BlockInterleaver(7, 2)
