"""The optimizer of hidden matrices, against torch's own and the singular values it aims at."""

import pytest
import torch

from source_codec.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (16, 16)])
def test_same_steps_as_torch(shape):
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    optimizers = [
        Muon([ours], torch.bfloat16, lr=0.02),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01),
    ]
    for scale in range(1, 21):
        gradient = scale * torch.randn(shape)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert optimizers[0].state_dict()["state"][0].keys() == {"momentum_buffer"}


@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(1)
    matrix = torch.randn(shape) * torch.linspace(0.5, 2, shape[1])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    step = orthogonalized(matrix, torch.float32)
    assert step.dtype == torch.float32
    values = torch.diagonal(left.T @ step @ right.T)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    assert float((left @ torch.diag(values) @ right - step).abs().max()) < 1e-4
