"""The code length that training minimises, on the device where the network runs.

On the CPU a compiled kernel computes value and gradient in one pass; elsewhere the same formula
stands in torch operations, whose gradient torch derives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from source_codec.denoiser import mixture_bits
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES

LOG2_SCALES = (-6.0, 7.0)
"""Range that the log2 scales are held in; the gradient passes straight through its ends."""


def code_length_bits(parameters: Tensor, residual: Tensor, edges: Tensor) -> Tensor:
    """Code length of one channel, in bits: arguments and result as of the kernel.

    Args:
        parameters: float32 (N, 15 + c), mixture parameters of channel c.
        residual: float32 (N, 3), in input units; the first c are used.
        edges: float32 (N, 2), edges of the true value's bin.

    Returns:
        float32 (N,) bits, on the device of the arguments, which all are on the same.
    """
    if parameters.device.type == "cpu":
        return mixture_bits(parameters, residual, edges)
    return torch_mixture_bits(parameters, residual, edges)


def torch_mixture_bits(parameters: Tensor, residual: Tensor, edges: Tensor) -> Tensor:
    """:func:`source_codec.denoiser.mixture_bits` in torch operations, for any device."""
    k = N_MIXTURES
    logits, means, scales, coefficients = parameters.split(
        [k, k, k, parameters.shape[1] - 3 * k], dim=1
    )
    coded = residual[:, : coefficients.shape[1]].round().clamp(-127, 127)
    centre = 32 * means + (coefficients * coded).sum(dim=1, keepdim=True)
    held = scales + (scales.clamp(*LOG2_SCALES) - scales).detach()
    inverse = torch.exp2(-held) / 8
    lower, upper = ((edges[:, i : i + 1] - centre) * inverse for i in range(2))
    # sigma(u) - sigma(l) = sigma(-l) - sigma(-u): take the side without cancellation.
    flipped = lower + upper > 0
    mass = torch.sigmoid(torch.where(flipped, -lower, upper)) - torch.sigmoid(
        torch.where(flipped, -upper, lower)
    )
    floor = 2.0**-FLOOR_BITS
    probability = (torch.softmax(logits, dim=1) * mass).sum(dim=1)
    return -torch.log2((1 - floor) * probability + floor / 256)
