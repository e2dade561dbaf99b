"""What the network of training and its integer twin agree on: sizes, and the grids of numbers.

Grids:

========================  =======================================================
weights                   8 bits, one power-of-two scale per output
network inputs            1/32
activations after ReLU    1/32, 0 to 255/32
residual stream           1/256
heads' pre-activations    1/256, 16 bits
mixture parameters        1/64 nat (logits), 1/8 input unit (means),
                          1/16 octave (scales), 1/128 (colour coefficients)
========================  =======================================================

See :mod:`source_codec.denoiser` for the network in floats and :mod:`source_codec.integer_network`
for the one in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

INPUT_BITS = 5
ZERO_POINT = 128
"""The byte that stands for an input of zero: inputs, -127 to 127, are stored plus this."""
ACTIVATION_BITS = 5
ACTIVATION_MAX = 255
STREAM_BITS = 8
"""Fraction bits of the residual stream and of the heads' pre-activations."""
STREAM_TO_ACTIVATION = STREAM_BITS - ACTIVATION_BITS
NECK_MAX = (1 << 15) - 1
PARAMETER_MAX = 1 << 20
"""Adapted parameters are confined to what the integer network can give."""
N_MIXTURES = 5
COLOUR_INPUTS = 4
"""Inputs of a head per channel already coded: the true residual at four clipping ranges."""
FLOOR_BITS = 12
"""A uniform distribution of weight 2^-12 is mixed in, which bounds the cost of any value."""
WEIGHT_GROUP = 4
WEIGHT_GROUP_MAX = 128
"""Products of a weight and an input, at most 255, are added up four at a time in 16 bits: positive
weights of such a group come to 128 together at most, negative ones too."""


@dataclass(frozen=True)
class DenoiserShape:
    """Sizes of the network: widths, multiples of eight, as products of bytes go.

    Attributes:
        width: of the residual stream.
        blocks: of the hidden layer in each residual block.
        head_width: of the hidden layer in each head.
    """

    width: int = 192
    blocks: tuple[int, ...] = (192, 64)
    head_width: int = 64


def head_outputs(channel: int) -> int:
    """Outputs of a head: logits, means and log-scales, and a coefficient per coded channel."""
    return 3 * N_MIXTURES + channel
