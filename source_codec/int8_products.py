"""Matrix products of int8 operands in int32, by torch: fast where the processor has VNNI.

Importing this module loads torch, which takes longer than a small image; see
``Model.in_int8`` for who does so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from source_codec.features import N_INPUTS

ROW_STEP = 256
"""Operands are padded to a multiple of this many rows, so that the matrix library prepares its
kernels for few shapes only: two, of batches of up to 512 rows."""


class _TorchThreads(threading.local):
    """Torch's own thread pool is kept out of all threads but the main one.

    The codec multiplies on worker threads, one for each core: two pools that wait for each other's
    cores are slower than either.
    """

    def __init__(self) -> None:
        self.limited = threading.current_thread() is not threading.main_thread()
        if self.limited:
            torch.set_num_threads(1)


_torch_threads = _TorchThreads()


def multiply(x: NDArray[np.int8], weight: NDArray[np.int8], out: NDArray[np.int32]) -> None:
    """``out = x @ weight`` for int8 ``x`` (N, in) and ``weight`` (in, outputs), int32 ``out``."""
    _ = _torch_threads.limited  # sets this thread up
    count = len(x)
    rows = -(-count // ROW_STEP) * ROW_STEP
    if rows == count:
        torch._int_mm(torch.from_numpy(x), torch.from_numpy(weight), out=torch.from_numpy(out))
    else:
        padded = torch.zeros(rows, x.shape[1], dtype=torch.int8)
        padded[:count] = torch.from_numpy(x)
        out[:] = torch._int_mm(padded, torch.from_numpy(weight)).numpy()[:count]


def product(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    """``left @ right`` for int8 (a, k) and (k, b), of few different shapes: int32 (a, b)."""
    _ = _torch_threads.limited  # sets this thread up
    exact: NDArray[np.int32] = torch._int_mm(
        torch.from_numpy(left), torch.from_numpy(right)
    ).numpy()
    return exact


@cache
def are_worthwhile() -> bool:
    """Whether the products are exact here, and faster than those of float32.

    On processors without VNNI some kernels saturate 16-bit intermediates, and others are exact but
    several times slower than float32, as is torch's own where oneDNN is missing.
    """
    return _are_exact() and _are_fast()


def _are_exact() -> bool:
    """On operands that saturate inexact kernels."""
    ramp = np.arange(64 * N_INPUTS, dtype=np.int64)
    for high in (127, -128):
        x = np.where(ramp * ramp % 7 < 5, high, -high - 1).astype(np.int8).reshape(64, N_INPUTS)
        w = np.where(ramp * 5 % 11 < 8, 127, -127).astype(np.int8).reshape(64, N_INPUTS)
        for width in (64, 192, N_INPUTS):
            inputs = x[:, :width].copy()
            weight = np.ascontiguousarray(w[:, :width].T)
            products = np.empty((64, 64), dtype=np.int32)
            try:
                multiply(inputs, weight, products)
            except (RuntimeError, NotImplementedError, AttributeError):
                return False
            if not np.array_equal(products, inputs.astype(np.int64) @ weight.astype(np.int64)):
                return False
    return True


def _are_fast() -> bool:
    """In a short trial; the least of three times, since other work only adds to them."""
    x, weight = np.ones((ROW_STEP, N_INPUTS), np.int8), np.ones((N_INPUTS, 192), np.int8)
    products = np.empty((ROW_STEP, 192), dtype=np.int32)
    left, right = x.astype(np.float32), weight.astype(np.float32)

    def least_seconds(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return least_seconds(lambda: multiply(x, weight, products)) < least_seconds(
        lambda: np.matmul(left, right)
    )
