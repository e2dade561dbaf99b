"""What the network of training and its integer twin agree on: sizes, and the grids of numbers.

Grids:

========================  =======================================================
weights                   8 bits, one power-of-two scale per output
network inputs            1/32
activations after ReLU    1/32, 0 to 255/32
mixture parameters        1/64 nat (logits), 1/8 input unit (means),
                          1/16 octave (scales), 1/128 (colour coefficients)
========================  =======================================================

See :mod:`source_codec.denoiser` for the network in floats and :mod:`source_codec.integer_network`
for the one in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

INPUT_BITS = 5
ACTIVATION_BITS = 5
ACTIVATION_MAX = 255
N_MIXTURES = 5
COLOUR_INPUTS = 4
"""Inputs of a head per channel already coded: the true residual at four clipping ranges."""
FLOOR_BITS = 12
"""A uniform distribution of weight 2^-12 is mixed in, which bounds the cost of any value."""


@dataclass(frozen=True)
class DenoiserShape:
    """Sizes of the network: hidden width, residual blocks, width of each head."""

    width: int = 192
    blocks: int = 2
    head_width: int = 64


def head_outputs(channel: int) -> int:
    """Outputs of a head: logits, means and log-scales, and a coefficient per coded channel."""
    return 3 * N_MIXTURES + channel
