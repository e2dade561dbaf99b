"""The masked-diffusion denoiser as trained: float arithmetic on integer-valued quantities.

A residual network maps the features of one masked pixel to a mixture of logistics for each of its
three channels, coded green first, then red given green, then blue given both. Weights and
activations are rounded in the forward pass to the grids on which the exported network works in
integers (quantisation-aware training, straight-through gradients), so that training sees the
network that will be used. See :mod:`source_codec.network_shape` for the grids, and
:mod:`source_codec.integer_network` for the integer twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor, nn

from source_codec.integer_products import BYTES_STEP
from source_codec.network_shape import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    COLOUR_INPUTS,
    FLOOR_BITS,
    INPUT_BITS,
    N_MIXTURES,
    WEIGHT_GROUP,
    WEIGHT_GROUP_MAX,
    DenoiserShape,
    head_outputs,
)
from source_codec.window import Window


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds ``weight`` (out, in) to 8 bits with a power-of-two scale per row.

    The scale is the largest at which the row's groups of weights stay in their bounds (see
    :data:`~source_codec.network_shape.WEIGHT_GROUP`). Rounding what is rounded changes nothing.

    Returns:
        The integers as floats, in [-127, 127], and the exponents p (out, 1), float:
        weight ~ integer * 2^-p.
    """
    peak = _largest_group(weight).clamp(min=2.0**-20)
    largest = WEIGHT_GROUP_MAX + 0.5 * WEIGHT_GROUP  # before rounding
    exponent = torch.floor(torch.log2(largest / peak)).clamp(max=14)
    exponent -= torch.where(_fits(torch.round(weight * torch.exp2(exponent))), 0.0, 1.0)
    integers = torch.round(weight * torch.exp2(exponent))
    doubled = _fits(2 * integers) & (exponent < 14)
    return torch.where(doubled, 2 * integers, integers), exponent + doubled


def _largest_group(weight: Tensor) -> Tensor:
    """The largest sum of a group's weights of one sign, in magnitude: (out, 1).

    Groups are those of :func:`source_codec.integer_products.grouped`.
    """
    padded = nn.functional.pad(weight, (0, -weight.shape[1] % BYTES_STEP))
    turns = padded.reshape(len(weight), -1, 2, 2, 2)
    sums = [part.sum(dim=(2, 4)).flatten(1) for part in (turns.clamp(min=0), turns.clamp(max=0))]
    return torch.maximum(sums[0], -sums[1]).amax(dim=1, keepdim=True)


def _fits(integers: Tensor) -> Tensor:
    peak = integers.abs().amax(dim=1, keepdim=True)
    return (_largest_group(integers) <= WEIGHT_GROUP_MAX) & (peak <= 127)


class QuantLinear(nn.Linear):
    """A linear layer whose weights are rounded as :func:`quantise_weight` does.

    The rounded weights are made by :meth:`refresh`, once per change of the weights and not in every
    forward pass; :meth:`pass_gradient` hands their gradient straight through to the weights.
    """

    rounded: Tensor

    def refresh(self) -> None:
        """Rounds the current weights for the forward passes to come."""
        with torch.no_grad():
            integers, exponent = quantise_weight(self.weight)
            self.rounded = (integers * torch.exp2(-exponent)).requires_grad_()

    def pass_gradient(self) -> None:
        """Takes the rounded weights' gradient as that of the weights (straight-through)."""
        self.weight.grad = self.rounded.grad

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in) -> (N, out)."""
        return nn.functional.linear(x, self.rounded.to(x.dtype), self._bias_as(x))

    def _bias_as(self, x: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias.to(x.dtype)


class _QuantRelu(torch.autograd.Function):
    """One fused pass back (hardtanh's), instead of a chain of element-wise ones."""

    LIMIT = ACTIVATION_MAX * 2.0**-ACTIVATION_BITS

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        clipped = nn.functional.hardtanh(x, 0.0, _QuantRelu.LIMIT)
        return clipped.mul_(1 << ACTIVATION_BITS).round_().mul_(2.0**-ACTIVATION_BITS)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, 0.0, _QuantRelu.LIMIT)
        return passed


def quant_relu(x: Tensor) -> Tensor:
    """ReLU rounded to 1/32 and clipped to 255/32; the gradient passes straight through."""
    result: Tensor = _QuantRelu.apply(x)
    return result


def colour_inputs(residual: Tensor) -> Tensor:
    """Head inputs from the true residuals of channels already coded.

    Args:
        residual: (N, channels), in network input units, integers in [-127, 127].

    Returns:
        (N, channels * 4) on the 1/32 grid: each residual times 1, 2, 4 and 8, clipped to +-127.
    """
    gains = torch.tensor([1.0, 2.0, 4.0, 8.0], device=residual.device)
    return ((residual[..., None] * gains).clamp(-127, 127) / (1 << INPUT_BITS)).flatten(-2)


class ResidualBlock(nn.Module):
    """h + second(relu(first(relu(h))))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = QuantLinear(width, hidden)
        self.second = QuantLinear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        """h (N, width) -> (N, width)."""
        hidden = quant_relu(self.first(quant_relu(h)))
        result: Tensor = h + self.second(hidden)
        return result


class Denoiser(nn.Module):
    """Masked features -> mixture parameters of the three channels.

    Args:
        shape: sizes of the network.
        window: what it sees.
    """

    def __init__(self, shape: DenoiserShape, window: Window) -> None:
        super().__init__()
        self.shape, self.window = shape, window
        width = shape.width
        self.stem = QuantLinear(window.inputs, width)
        self.blocks: list[ResidualBlock] = nn.ModuleList(  # type: ignore[assignment]
            ResidualBlock(width, hidden) for hidden in shape.blocks
        )
        self.neck = QuantLinear(width, 3 * shape.head_width)
        self.colour: list[QuantLinear] = nn.ModuleList(  # type: ignore[assignment]
            QuantLinear(COLOUR_INPUTS * c, shape.head_width, bias=False) for c in (1, 2)
        )
        self.heads: list[QuantLinear] = nn.ModuleList(  # type: ignore[assignment]
            QuantLinear(shape.head_width, head_outputs(c)) for c in range(3)
        )
        self._initialise()
        self.refresh()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=(1.0 / layer.in_features) ** 0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for block in self.blocks:
            nn.init.normal_(block.second.weight, std=0.3 * (1.0 / block.second.in_features) ** 0.5)
        with torch.no_grad():
            for c, head in enumerate(self.heads):
                head.weight.mul_(0.1)
                k = torch.arange(N_MIXTURES)
                head.bias[N_MIXTURES : 2 * N_MIXTURES] = (k - 2) * 0.25  # means, 32 input units
                head.bias[2 * N_MIXTURES : 3 * N_MIXTURES] = -0.5 + 0.5 * k  # octaves
                # A channel tends to deviate from its base as the one before did.
                if c:
                    head.bias[3 * N_MIXTURES + c - 1] = 0.9

    def layers(self) -> list[QuantLinear]:
        """All layers with rounded weights."""
        return [layer for layer in self.modules() if isinstance(layer, QuantLinear)]

    def refresh(self) -> None:
        """Rounds all weights; to be called whenever they have changed."""
        for layer in self.layers():
            layer.refresh()

    def pass_gradient(self) -> None:
        """Hands the gradients of the rounded weights through to the weights."""
        for layer in self.layers():
            layer.pass_gradient()

    def trunk(self, x: Tensor) -> Tensor:
        """Inputs (N, window.inputs), integers as floats -> pre-activations of the three heads."""
        h = self.stem(x * 2.0**-INPUT_BITS)
        for block in self.blocks:
            h = block(h)
        neck: Tensor = self.neck(quant_relu(h))
        return neck

    def forward(self, x: Tensor, residual: Tensor) -> list[Tensor]:
        """Mixture parameters given the features and the true residuals.

        Args:
            x: (N, window.inputs) integers as floats; bfloat16 carries them, and all weights,
                exactly, and trains fastest.
            residual: (N, 3) true value minus base, in input units, unclipped floats; channel c
                sees those of the channels before it only.

        Returns:
            Three tensors (N, 15 + c): logits, means (in 32 input units), log2 scales, and colour
            coefficients.
        """
        neck = self.trunk(x)
        outputs = []
        clipped = torch.round(residual).clamp(-127, 127)
        for c, head in enumerate(self.heads):
            hidden = neck[:, c * self.shape.head_width : (c + 1) * self.shape.head_width]
            if c:
                hidden = hidden + self.colour[c - 1](colour_inputs(clipped[:, :c]).to(x.dtype))
            outputs.append(head(quant_relu(hidden).float()))
        return outputs


@njit(cache=True, nogil=True, parallel=True, fastmath=True)
def _mixture_bits(
    parameters: NDArray[np.float32],
    residual: NDArray[np.float32],
    edges: NDArray[np.float32],
    bits: NDArray[np.float32],
    gradient: NDArray[np.float32],
) -> None:
    """Code length of every row and its gradient by the parameters, in one pass."""
    k = N_MIXTURES
    channel = parameters.shape[1] - 3 * k
    floor = np.float32(2.0**-FLOOR_BITS)
    log2 = np.float32(0.6931471805599453)
    one = np.float32(1)
    for n in prange(parameters.shape[0]):
        p = parameters[n]
        shift = np.float32(0)
        for j in range(channel):
            coded = min(max(np.round(residual[n, j]), np.float32(-127)), np.float32(127))
            shift += p[3 * k + j] * coded
        peak = p[0]
        for i in range(1, k):
            peak = max(peak, p[i])
        weight_sum = np.float32(0)
        mass_sum = np.float32(0)
        weight = np.empty(k, np.float32)
        mass = np.empty(k, np.float32)
        for i in range(k):
            weight[i] = np.exp(p[i] - peak)
            weight_sum += weight[i]
        slope_mean = np.empty(k, np.float32)
        slope_scale = np.empty(k, np.float32)
        for i in range(k):
            scale = min(max(p[2 * k + i], np.float32(-6)), np.float32(7))
            inverse = np.exp(-scale * log2) / np.float32(8)
            centre = p[k + i] * np.float32(32) + shift
            lower = (edges[n, 0] - centre) * inverse
            upper = (edges[n, 1] - centre) * inverse
            # sigma(u) - sigma(l) = sigma(-l) - sigma(-u): take the side without cancellation.
            flipped = lower + upper > 0
            a, b = (-upper, -lower) if flipped else (lower, upper)
            sa = one / (one + np.exp(min(-a, np.float32(80))))
            sb = one / (one + np.exp(min(-b, np.float32(80))))
            mass[i] = sb - sa
            da, db = sa * (one - sa), sb * (one - sb)
            slope = (db - da) * inverse
            slope_mean[i] = slope if flipped else -slope
            slope_scale[i] = -log2 * (db * b - da * a)
            weight[i] /= weight_sum
            mass_sum += weight[i] * mass[i]
        probability = (one - floor) * mass_sum + floor / np.float32(256)
        bits[n] = -np.log(probability) / log2
        factor = -(one - floor) / (probability * log2)
        shift_slope = np.float32(0)
        for i in range(k):
            gradient[n, i] = factor * weight[i] * (mass[i] - mass_sum)
            by_centre = factor * weight[i] * slope_mean[i]
            gradient[n, k + i] = by_centre * np.float32(32)
            gradient[n, 2 * k + i] = factor * weight[i] * slope_scale[i]
            shift_slope += by_centre
        for j in range(channel):
            coded = min(max(np.round(residual[n, j]), np.float32(-127)), np.float32(127))
            gradient[n, 3 * k + j] = shift_slope * coded


class _MixtureBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameters: Tensor, residual: Tensor, edges: Tensor) -> Tensor:
        bits = torch.empty(len(parameters))
        gradient = torch.empty_like(parameters)
        _mixture_bits(
            parameters.detach().contiguous().numpy(),
            residual.numpy(),
            edges.numpy(),
            bits.numpy(),
            gradient.numpy(),
        )
        ctx.save_for_backward(gradient)
        return bits

    @staticmethod
    def backward(ctx: Any, by_bits: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * by_bits[:, None], None, None


def mixture_bits(parameters: Tensor, residual: Tensor, edges: Tensor) -> Tensor:
    """Code length of one channel, in bits.

    Args:
        parameters: float32 (N, 15 + c) of channel c from :class:`Denoiser`: K logits, K means
            in 32 input units, K log2 scales in octaves of 8 input units, c colour coefficients.
        residual: float32 (N, 3), residuals in input units; the first c are used.
        edges: float32 (N, 2) lower and upper edge of the true value's bin, relative to the base,
            in input units; far outside (but finite) at values 0 and 255.

    Returns:
        float32 (N,) bits.
    """
    result: Tensor = _MixtureBits.apply(parameters, residual, edges)
    return result
