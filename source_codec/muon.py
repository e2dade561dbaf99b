r"""Muon: momentum whose matrices are made orthogonal before they become steps.

A step of a weight matrix is :math:`U V^T` of the gradient's running mean :math:`U \Sigma V^T`, so
that rare directions learn as fast as frequent ones. A quintic Newton-Schulz iteration,

.. math:: X \leftarrow a X + b (X X^T) X + c (X X^T)^2 X,

brings all singular values near 1 with matrix products alone. torch's optimizer of this name always
iterates in bfloat16, which processors without instructions for it emulate: there the steps would
take three quarters of the training. Here the type of the products is the caller's choice.

Reference:
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (the iteration
    and its coefficients).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalized(matrix: Tensor, product_type: torch.dtype) -> Tensor:
    """The matrix with singular values of about 1 (0.7 to 1.2), in the type of the products.

    Args:
        matrix: (m, n).
        product_type: of the matrix products.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(product_type)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Steps of matrices along their orthogonalized Nesterov momentum, with decoupled decay.

    Args:
        matrices: two-dimensional weights.
        product_type: of the matrix products in a step.
        lr: learning rate of a square matrix; a tall one's is larger by the root of its aspect.
        weight_decay: share of a weight, times the rate, that a step takes away.
        momentum: of the running mean.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        product_type: torch.dtype,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        self._product_type = product_type
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of every matrix that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                ahead = weight.grad.lerp(mean, momentum)
                aspect = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                weight.mul_(1 - rate * group["weight_decay"])
                direction = orthogonalized(ahead, self._product_type).to(weight.dtype)
                weight.add_(direction, alpha=-rate * aspect)
