import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sionna.phy.fec.ldpc import LDPC5GEncoder

from phy.ldpc import LdpcCode, decoder, encoder, select_base_graph
from phy.ldpc.base_graph import LIFTING_SIZES, LiftedGraph, lifted_graph
from phy.ldpc.rate_matching import deinterleave, interleave

# (k, n, bits per symbol, base graph). The first sixteen send every bit of the graph's circular
# buffer without fillers, once for each set of shifts.
FULL_LENGTH = [(22 * z, 66 * z, 1, 1) for z in (2, 384, 10, 56, 36, 44, 26, 240)] + [
    (10 * z, 50 * z, 1, 2) for z in (64, 12, 320, 14, 9, 352, 13, 60)
]
WITH_FILLERS = [
    (12, 40, 1, None),
    (13, 60, 2, None),
    (40, 120, 4, None),
    (100, 200, 2, None),
    (193, 400, 8, None),
    (292, 312, 6, None),
    (293, 400, 4, None),
    (500, 1000, 2, None),
    (561, 1122, 6, None),
    (641, 2564, 4, None),
    (1000, 2000, 4, 1),
    (1024, 1536, 6, None),
    (2000, 2400, 8, None),
    (2500, 10_000, 4, None),
    (3824, 6000, 6, None),
    (3839, 7678, 2, 2),
    (4224, 8448, 2, None),
    (5001, 10_002, 6, None),
    (7000, 8000, 8, None),
    (8447, 25_000, 2, None),
]
LENGTHS = FULL_LENGTH + WITH_FILLERS


def random_bits(*shape: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


def awgn_llr(
    code: LdpcCode, bits: NDArray[np.uint8], eb_n0_db: float, seed: int
) -> NDArray[np.float32]:
    """LLRs of the code bits sent with +-1 (each axis of QPSK) over white Gaussian noise."""
    variance = 1 / (2 * code.k / code.n * 10 ** (eb_n0_db / 10))
    noise = np.random.default_rng(seed).standard_normal((*bits.shape[:-1], code.n))
    received = 1 - 2.0 * code.encode(bits) + np.sqrt(variance) * noise
    return (2 * received / variance).astype(np.float32)


@pytest.mark.parametrize(("k", "n", "bits_per_symbol", "base_graph"), LENGTHS)
def test_encoder_and_rate_matching_equal_sionna(
    k: int, n: int, bits_per_symbol: int, base_graph: int | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Sionna warns of rates above 948/1024
        theirs = LDPC5GEncoder(k, n, bits_per_symbol, base_graph and f"bg{base_graph}")
    bits = random_bits(2, k, seed=k)
    expected = theirs(torch.from_numpy(bits).float(), rv=[0, 1, 2, 3]).numpy()
    code = LdpcCode(k, n, bits_per_symbol, base_graph)
    for rv in range(4):
        np.testing.assert_array_equal(code.encode(bits, rv), expected[:, rv])
    assert code.encode(bits).dtype == np.uint8


@pytest.mark.parametrize(("k", "n", "bits_per_symbol", "base_graph"), LENGTHS)
def test_noise_free_words_decode(
    k: int, n: int, bits_per_symbol: int, base_graph: int | None
) -> None:
    code = LdpcCode(k, n, bits_per_symbol, base_graph)
    bits = random_bits(2, k, seed=k)
    # Version 0 can be decoded by itself, the others too if all of the buffer is sent.
    for rv in range(4) if (k, n, bits_per_symbol, base_graph) in FULL_LENGTH else [0]:
        result = code.decode(8 * (1 - 2.0 * code.encode(bits, rv)), rv=rv)
        assert result.parity_ok.all()
        np.testing.assert_array_equal(result.bits, bits)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("lifting_size", LIFTING_SIZES)
def test_code_words_fulfil_every_check(number: int, lifting_size: int) -> None:
    graph = lifted_graph(number, lifting_size)
    information = random_bits(3, graph.information_columns * lifting_size, seed=lifting_size)
    words = encoder.encode(information, graph).reshape(3, -1, lifting_size)
    assert words.any()
    for row in range(graph.row_count):
        syndrome = np.zeros((3, lifting_size), dtype=np.uint8)
        for entry in range(graph.row_start[row], graph.row_start[row + 1]):
            syndrome ^= np.roll(words[:, graph.columns[entry]], -graph.shifts[entry], axis=1)
        assert not syndrome.any()


def test_tables_have_the_size_of_the_standard() -> None:
    assert len(LIFTING_SIZES) == 51
    one, two = lifted_graph(1, 384), lifted_graph(2, 384)
    assert (one.row_count, one.column_count, one.columns.size) == (46, 68, 316)
    assert (two.row_count, two.column_count, two.columns.size) == (42, 52, 197)


@pytest.mark.parametrize(
    ("payload", "rate", "number"),
    [
        (292, 0.9, 2),
        (293, 0.67, 2),
        (293, 0.68, 1),
        (3824, 0.67, 2),
        (3825, 0.67, 1),
        (9000, 0.25, 2),
        (9000, 0.26, 1),
    ],
)
def test_base_graph_selection(payload: int, rate: float, number: int) -> None:
    assert select_base_graph(payload, rate) == number


def test_interleaver_follows_the_standard() -> None:
    bits = np.arange(12, dtype=np.uint8)[np.newaxis]
    np.testing.assert_array_equal(interleave(bits, 4), [[0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]])
    llr = bits.astype(np.float32)
    np.testing.assert_array_equal(deinterleave(interleave(bits, 4).astype(np.float32), 4), llr)


def layered_min_sum(
    llr: NDArray[np.float32], graph: LiftedGraph, iterations: int
) -> NDArray[np.float32]:
    """The decoder's rule, one check after the other, in its plainest form."""
    z = graph.lifting_size
    posterior = llr.copy()
    messages: dict[tuple[int, int], np.float32] = {}
    for _ in range(iterations):
        for row in range(graph.row_count):
            entries = range(graph.row_start[row], graph.row_start[row + 1])
            for check in range(z):
                bits = [
                    int(graph.columns[e]) * z + (check + int(graph.shifts[e])) % z for e in entries
                ]
                extrinsic = np.array(
                    [
                        posterior[bit] - messages.get((row * z + check, bit), np.float32(0))
                        for bit in bits
                    ]
                )
                for i, bit in enumerate(bits):
                    others = np.delete(extrinsic, i)
                    sign = np.prod(np.where(others < 0, -1, 1))
                    magnitude = np.float32(decoder.SCALE) * np.abs(others).min() - np.float32(
                        decoder.OFFSET
                    )
                    message = np.float32(sign * max(magnitude, np.float32(0)))
                    messages[row * z + check, bit] = message
                    posterior[bit] = extrinsic[i] + message
    return posterior


@pytest.mark.parametrize(("k", "n", "number"), [(60, 460, 2), (97, 170, 2), (150, 300, 1)])
def test_decoder_equals_plain_layered_min_sum(k: int, n: int, number: int) -> None:
    # The reference works on the complete graph, with filler and with bits that were not sent: the
    # decoder must come to the same although it leaves out the rows and columns that do not matter.
    code = LdpcCode(k, n, base_graph=number)
    llr = awgn_llr(code, random_bits(k), -3.0, seed=k)
    graph = lifted_graph(number, code.lifting_size)
    z, systematic = graph.lifting_size, k - 2 * graph.lifting_size
    word = np.zeros(graph.column_count * z, dtype=np.float32)
    word[2 * z : k] = llr[:systematic]
    word[k : k + code.filler_bits] = decoder.FILLER_LLR
    word[k + code.filler_bits :][: n - systematic] = llr[systematic:]
    for iterations in (1, 3):
        result = code.decode(llr, max_iterations=iterations)
        assert result.iterations == iterations  # not stopped early: the noise is too strong
        expected = layered_min_sum(word, graph, iterations)[:k]
        np.testing.assert_allclose(result.llr, expected, rtol=1e-4, atol=1e-4)


def test_block_error_rate_on_awgn() -> None:
    # Rate 1/2, Eb/N0 = 1.2 dB, 20 iterations: the BLER must be at most 0.1. With 50 errors in 1000
    # blocks it is below 0.063 (95 % confidence, Clopper-Pearson); 31 errors in 4000 were measured.
    code = LdpcCode(4224, 8448, bits_per_symbol=2)
    errors = 0
    for seed in range(5):
        bits = random_bits(200, code.k, seed=seed)
        result = code.decode(awgn_llr(code, bits, 1.2, seed), max_iterations=20)
        wrong = (result.bits != bits).any(axis=1)
        assert not (wrong & result.parity_ok).any()
        assert result.iterations.max() <= 20
        errors += int((~result.parity_ok | wrong).sum())
    assert errors <= 50


def test_threads_do_not_change_the_result() -> None:
    code = LdpcCode(1000, 2000)
    llr = awgn_llr(code, random_bits(7, code.k), 1.0, seed=2)
    serial, parallel = code.decode(llr), code.decode(llr, threads=3)
    np.testing.assert_array_equal(serial.llr, parallel.llr)
    np.testing.assert_array_equal(serial.iterations, parallel.iterations)
    np.testing.assert_array_equal(serial.parity_ok, parallel.parity_ok)


def test_easy_words_stop_early_and_batches_keep_their_shape() -> None:
    code = LdpcCode(500, 1500, bits_per_symbol=2)
    bits = random_bits(2, 3, code.k)
    result = code.decode(awgn_llr(code, bits, 5.0, seed=3))
    assert result.bits.shape == (2, 3, code.k)
    assert result.llr.shape == (2, 3, code.k)
    assert result.parity_ok.shape == result.iterations.shape == (2, 3)
    assert result.iterations.max() <= 5
    np.testing.assert_array_equal(result.bits, bits)
    empty = code.decode(np.zeros((0, code.n)))
    assert empty.bits.shape == (0, code.k)


def test_repeated_bits_add_up() -> None:
    code = LdpcCode(100, 5000)  # the circular buffer holds fewer than 900 bits
    bits = random_bits(4, code.k)
    result = code.decode(awgn_llr(code, bits, 3.0, seed=4))
    np.testing.assert_array_equal(result.bits, bits)
    assert result.parity_ok.all()


def test_nothing_received_is_not_the_zero_word() -> None:
    for code in (LdpcCode(50, 100), LdpcCode(8448, 9000)):
        result = code.decode(np.zeros(code.n), max_iterations=3)
        assert not result.parity_ok
        assert result.iterations == 3


def test_extreme_llrs() -> None:
    code = LdpcCode(1000, 2000)
    bits = random_bits(code.k)
    certain = np.where(code.encode(bits) == 1, -np.inf, np.inf)
    certain[::10] = 0
    result = code.decode(certain)
    assert result.parity_ok
    np.testing.assert_array_equal(result.bits, bits)
    # Contradictory certainties end without overflow or NaN.
    contradictory = code.decode(np.where(random_bits(code.n) == 1, -np.inf, np.inf), 200)
    assert not contradictory.parity_ok
    assert np.isfinite(contradictory.llr).all()
    certain[5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        code.decode(certain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((11, 100), "at least 12"),
        ((8449, 20_000), "8448"),
        ((3841, 9000, 1, 2), "3840"),
        ((5000, 50_000), "3840"),
        ((1000, 1052), "k / 0.95"),
        ((100, 201, 2), "multiple"),
        ((100, 200, 0), "multiple"),
        ((100, 200, 1, 3), "1 or 2"),
    ],
)
def test_impossible_codes_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LdpcCode(*arguments)


def test_impossible_arguments_are_refused() -> None:
    code = LdpcCode(100, 200)
    with pytest.raises(ValueError, match="shape"):
        code.encode(np.zeros(99, dtype=np.uint8))
    with pytest.raises(ValueError, match="0 or 1"):
        code.encode(np.full(100, 2))
    with pytest.raises(ValueError, match="redundancy version"):
        code.encode(np.zeros(100, dtype=np.uint8), rv=4)
    with pytest.raises(ValueError, match="shape"):
        code.decode(np.zeros(201))
    with pytest.raises(ValueError, match="at least 1"):
        code.decode(np.zeros(200), max_iterations=0)
    with pytest.raises(ValueError, match="one of"):
        lifted_graph(1, 17)
