"""Processes that train one model together, each on batches of its own.

Started as ``torchrun --nproc-per-node N -m sscc train ...`` the N processes ("ranks") find each
other through the environment. Numbers and objects travel between them by gloo, gradients on CUDA
devices by NCCL. A process started by itself is the only rank, and nothing travels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Shared = TypeVar("Shared")


class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, 0 for the first, which alone writes files and reports.
        size: number of processes.
        local: its number on this machine, which chooses its CUDA device.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        self.rank, self.size, self.local = rank, size, local

    @classmethod
    def from_environment(cls) -> Ranks:
        """Joins the group that ``torchrun`` has set up; without one, a single process."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo")
        return cls(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def device(self, name: str = "auto") -> torch.device:
        """The device to train on.

        Args:
            name: "cpu", "cuda" or "auto": CUDA where there is a device. On a machine with several
                each of its processes takes its own.

        Raises:
            ValueError: no such kind of device, or none of it for this process.
        """
        if name not in ("auto", "cpu", "cuda"):
            raise ValueError(f"no device {name!r}: take auto, cpu or cuda")
        if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.local >= count:
            raise ValueError(
                f"process {self.local} of this machine finds {count} CUDA devices: start at most "
                "one process per device, or train with --device cpu"
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def share(self, value: Shared | None) -> Shared:
        """Rank 0's object on all ranks; the other ranks' arguments do not matter."""
        held = [value]
        if self.size > 1:
            dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        assert held[0] is not None
        return held[0]

    def number(self, value: float) -> float:
        """Rank 0's number on all ranks."""
        if self.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(held, src=0)
        return float(held)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.size == 1:
            return flag
        held = torch.tensor(int(flag))
        dist.all_reduce(held, op=dist.ReduceOp.MAX)
        return bool(held)

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replaces float32 tensors of one device by their sums over all ranks, bit-equal on all."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by rank 0's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def close(self) -> None:
        """Leaves the group, together with all other ranks."""
        if self.size > 1:
            self.any(False)
            dist.destroy_process_group()
