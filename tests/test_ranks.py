"""Training on several processes: one set of weights, that of one process with all the data."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Photo
from PIL import Image
from torch import multiprocessing

from source_codec import training
from source_codec.experts import Kind
from source_codec.order import Order
from source_codec.ranks import Ranks
from source_codec.training import Trainer
from source_codec.training_config import ExpertConfig, TrainingConfig
from source_codec.training_data import Batch, Source, concatenate, examples_at, load_images

PROCESSES = 2
ROWS = 60
UPDATES = 4


def config_of(folder: Path) -> TrainingConfig:
    return TrainingConfig(
        data_root=folder,
        sources=(Source("photos"), Source("photos", crop=32)),
        validation=(Source("photos"),),
        experts=(ExpertConfig(16, (16,), 8),) * 5,
        minutes=1,
        batch=200,
        crop=72,
    )


def batches_of(folder: Path, rank: int) -> list[Batch]:
    """Batches of a rank's own pixels, of two experts by turns."""
    images = load_images(folder / "photos")
    rng = np.random.default_rng([17, rank])
    result = []
    for number in range(UPDATES):
        image = images[rank][: 30 if number % 2 else None]
        known = rng.integers(0, 2, image.shape[:2]).astype(np.uint8)
        ys, xs = (axis[:ROWS] for axis in np.nonzero(1 - known))
        # A gray batch has a third of the weight, which the ranks' sum must respect.
        kind = Kind.of(Order.HALTON, *image.shape[:2])
        result.append(examples_at(image, known, ys, xs, 5, kind, gray=number == rank))
    return result


def weights_of(trainer: Trainer) -> list[torch.Tensor]:
    networks = (*trainer.models, *trainer.averages)
    return [parameter.detach().clone() for n in networks for parameter in n.parameters()]


def rank_main(rank: int, port: int, folder: Path) -> None:
    """What each process does; its findings go into a file."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    training.VALIDATION_PIXELS = 500
    ranks = Ranks.from_environment()
    found: dict[str, Any] = {"shared": ranks.share({"from": rank}), "size": ranks.size}
    # Each process would begin with other weights.
    config = replace(config_of(folder), seed=1 + rank)
    trainer = Trainer(config, folder / f"run{rank}", ranks)
    found["losses"] = [trainer.update(batch, 0.7) for batch in batches_of(folder, rank)]
    found["weights"] = weights_of(trainer)

    # A run: the same experts in the same order on different data; the end when rank 0 says so.
    experts: list[int] = []
    inputs: list[int] = []
    update = trainer.update

    def record(batch: Batch, rate: float) -> float:
        experts.append(batch.expert)
        inputs.append(int(batch.inputs.int().sum()))
        return update(batch, rate)

    trainer.update = record  # type: ignore[method-assign]
    trainer.config = replace(config, minutes=0.03)
    finished = trainer.run()
    found |= {"experts": experts, "inputs": inputs, "seconds": trainer.seconds}
    found |= {"finished": finished, "steps": trainer.steps, "after_run": weights_of(trainer)}

    # A stop that only the second process is asked for.
    trainer.config = replace(config, minutes=10)
    if rank == 1:
        trainer.stop()
    found["stopped"] = not trainer.run()
    found["steps_when_stopped"] = trainer.steps
    torch.save(found, folder / f"found{rank}.pt")
    ranks.close()


@pytest.fixture(scope="module")
def folder(photo: Photo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    (root / "photos").mkdir()
    for seed in range(3):
        Image.fromarray(photo(72, 80, 3, seed)).save(root / "photos" / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(rank_main, (port, folder), nprocs=PROCESSES)
    return [torch.load(folder / f"found{rank}.pt") for rank in range(PROCESSES)]


def test_objects_of_the_first_rank_reach_all(found: list[dict[str, Any]]) -> None:
    assert [f["shared"] for f in found] == [{"from": 0}] * 2
    assert [f["size"] for f in found] == [2, 2]


@pytest.mark.parametrize("when", ["weights", "after_run"])
def test_all_ranks_have_the_same_weights(found: list[dict[str, Any]], when: str) -> None:
    first, second = (f[when] for f in found)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert found[0]["losses"] == found[1]["losses"]


def test_two_ranks_are_one_process_with_the_data_of_both(
    found: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "ROWS", ROWS)  # forward passes as they were, sums apart
    trainer = Trainer(config_of(folder), folder / "single")
    before = weights_of(trainer)
    pairs = zip(batches_of(folder, 0), batches_of(folder, 1), strict=True)
    losses = [trainer.update(concatenate(list(pair)), 0.7) for pair in pairs]
    np.testing.assert_allclose(found[0]["losses"], losses, rtol=1e-5)
    for a, b in zip(found[0]["weights"], weights_of(trainer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    moved = [not torch.equal(a, b) for a, b in zip(before, found[0]["weights"], strict=True)]
    assert sum(moved) >= len(moved) * 2 // 5 - 4  # two of five experts


def test_a_run_takes_the_same_experts_on_different_data(found: list[dict[str, Any]]) -> None:
    assert found[0]["experts"] == found[1]["experts"]
    assert len(set(found[0]["experts"])) > 1
    assert set(found[0]["inputs"]).isdisjoint(found[1]["inputs"])


def test_all_ranks_end_together(found: list[dict[str, Any]]) -> None:
    """By rank 0's clock; or at once, whichever rank is asked to stop."""
    assert [f["finished"] for f in found] == [True, True]
    assert found[0]["seconds"] == found[1]["seconds"] >= 1.8
    assert found[0]["steps"] == found[1]["steps"]
    assert [f["stopped"] for f in found] == [True, True]
    assert found[0]["steps_when_stopped"] == found[1]["steps_when_stopped"]


def test_only_the_first_rank_writes(found: list[dict[str, Any]], folder: Path) -> None:
    assert found
    assert {path.name for path in (folder / "run0").iterdir()} == {"checkpoint.pt", "log.csv"}
    assert not (folder / "run1").exists()


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks.from_environment()
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert ranks.share("this") == "this"
    assert ranks.number(2.5) == 2.5
    assert ranks.any(True)
    assert not ranks.any(False)
    tensor = torch.ones(2)
    ranks.sum_in_place([tensor])
    ranks.copy_first([tensor])
    assert torch.equal(tensor, torch.ones(2))
    ranks.close()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process takes the CUDA device of its number; more processes than devices are refused."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert Ranks(3, 4, local=1).device() == torch.device("cuda", 1)
    assert taken == [1]
    assert Ranks(3, 4, local=1).device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="2 CUDA devices"):
        Ranks(2, 4, local=2).device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Ranks().device() == torch.device("cpu")
    with pytest.raises(ValueError, match="0 CUDA devices"):
        Ranks().device("cuda")
    with pytest.raises(ValueError, match="tpu"):
        Ranks().device("tpu")
