import numpy as np
import pytest
from sionna.phy.nr.utils import calculate_tb_size

from phy.crc import CRC24B, crc_check
from phy.segmentation import Segmentation


@pytest.mark.parametrize(
    ("transport_bits", "base_graph", "blocks", "block_bits", "lifting_size"),
    [
        # One block, no CRC of its own, up to and including K_cb.
        (24, 2, 1, 24, 4),
        (192, 2, 1, 192, 32),
        (193, 2, 1, 193, 26),
        (560, 2, 1, 560, 72),
        (561, 2, 1, 561, 64),
        (640, 2, 1, 640, 72),
        (641, 2, 1, 641, 72),
        (3840, 2, 1, 3840, 384),
        (8448, 1, 1, 8448, 384),
        # C = ceil(B / (K_cb - 24)) blocks with 24 bits of CRC each.
        (3841, 2, 2, 1945, 208),
        (8449, 1, 2, 4249, 208),
        (2 * 8424, 1, 2, 8448, 384),
        (2 * 8424 + 1, 1, 3, 5641, 288),
        (3_000_024, 1, 357, 8428, 384),
    ],
)
def test_block_count_length_and_lifting_size(
    transport_bits: int, base_graph: int, blocks: int, block_bits: int, lifting_size: int
) -> None:
    segmentation = Segmentation(transport_bits, base_graph)
    assert segmentation.block_count == blocks
    assert segmentation.block_bits == block_bits
    assert segmentation.lifting_size == lifting_size
    information_columns = 22 if base_graph == 1 else 10
    assert segmentation.filler_bits == information_columns * lifting_size - block_bits
    assert 0 <= segmentation.padding_bits < blocks


@pytest.mark.parametrize(
    ("coded_bits", "rate"), [(20_000, 0.5), (60_000, 0.6), (200_000, 0.7), (40_000, 0.2)]
)
def test_standard_sizes_divide_as_in_sionna(coded_bits: int, rate: float) -> None:
    size, block_bits, blocks, crc_bits, block_crc_bits, _ = (
        np.asarray(value)
        for value in calculate_tb_size(
            modulation_order=4, target_coderate=rate, num_coded_bits=coded_bits
        )
    )
    segmentation = Segmentation(int(size + crc_bits), 2 if rate <= 0.25 else 1)
    assert segmentation.block_count == blocks
    assert segmentation.block_bits == block_bits
    assert segmentation.crc_bits == block_crc_bits
    assert segmentation.padding_bits == 0


@pytest.mark.parametrize(
    ("transport_bits", "base_graph"), [(25, 2), (3841, 2), (8448, 1), (8449, 1), (50_003, 1)]
)
def test_segments_join_again(transport_bits: int, base_graph: int) -> None:
    segmentation = Segmentation(transport_bits, base_graph)
    bits = np.random.default_rng(1).integers(0, 2, transport_bits, dtype=np.uint8)
    blocks = segmentation.segment(bits)
    assert blocks.shape == (segmentation.block_count, segmentation.block_bits)
    joined, crc_ok = segmentation.join(blocks)
    np.testing.assert_array_equal(joined, bits)
    assert crc_ok.shape == (segmentation.block_count,)
    assert crc_ok.all()


def test_each_block_is_checked_by_itself() -> None:
    segmentation = Segmentation(30_000, 1)
    blocks = segmentation.segment(np.ones(30_000, dtype=np.uint8))
    assert crc_check(blocks, CRC24B).all()
    blocks[2, 17] ^= 1
    np.testing.assert_array_equal(segmentation.join(blocks)[1], [True, True, False, True])


def test_refuses_impossible_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Segmentation(0, 1)
    with pytest.raises(ValueError, match="1 or 2"):
        Segmentation(100, 3)
    with pytest.raises(ValueError, match=r"shape \(100,\)"):
        Segmentation(100, 2).segment(np.zeros(99, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"shape \(1, 100\)"):
        Segmentation(100, 2).join(np.zeros((2, 50), dtype=np.uint8))
