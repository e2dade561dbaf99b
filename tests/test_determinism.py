"""Identical bytes and pixels, whatever the threads, libraries' settings and instruction sets."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray

from source_codec import Codec, Order, Process, Schedule
from source_codec.integer_network import choose_backend

PROGRAM = """
import json, pathlib, sys
import numpy as np
import torch

threads, onednn = json.loads(sys.argv[1])
torch.backends.mkldnn.set_flags(onednn)
from source_codec import Codec, Process, Order, Schedule

codec = Codec.load(threads=threads)
images = np.load("images.npz")
exact = True
for name, image in images.items():
    process = Process(Order.RANDOM, Schedule.LINEAR, 3) if "steps" in name else Process()
    pathlib.Path(sys.argv[2], name).write_bytes(codec.encode(image, process))
    decoded = codec.decode(pathlib.Path("reference", name).read_bytes())
    exact &= bool(np.array_equal(decoded, image))
# Older int8 kernels saturate sums of two products.
try:
    x = torch.full((64, 64), 127, dtype=torch.int8)
    int8_exact = all(bool((torch._int_mm(x, w) == 64 * x[0, 0].int() * w[0, 0]).all())
                     for w in (x, -x))
except RuntimeError:
    int8_exact = False
print(json.dumps({
    "exact": exact,
    "backend": codec.model.network.backend,
    "int8_exact": int8_exact,
    "cpu": torch.backends.cpu.get_cpu_capability(),
}))
"""


@dataclass(frozen=True)
class Setting:
    """One way to run the codec."""

    name: str
    threads: int = 2
    onednn: bool = True
    environment: dict[str, str] = field(default_factory=dict)


SETTINGS = [
    Setting("one-thread", threads=1, environment={"OMP_NUM_THREADS": "1"}),
    Setting("without-onednn", onednn=False),
    Setting("onednn-for-avx2", environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Setting("plain-instruction-set", environment={"ATEN_CPU_CAPABILITY": "default"}),
    Setting(
        "generic-numba", environment={"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": "numba-cache"}
    ),
]


@pytest.fixture(scope="module")
def images(photo: Photo) -> dict[str, NDArray[np.uint8]]:
    """Images of each kind; the one named "steps" is coded in steps of several blocks."""
    return {
        "rgb": photo(48, 40),
        "gray": photo(33, 17, 1),
        "pixel": photo(1, 1),
        "noise": np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8),
        "steps": photo(90, 100),
    }


@pytest.fixture(scope="module")
def folder(
    codec: Codec, images: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The images, and their streams as made here."""
    folder = tmp_path_factory.mktemp("determinism")
    np.savez(folder / "images.npz", **images)
    (folder / "reference").mkdir()
    for name, image in images.items():
        process = Process(Order.RANDOM, Schedule.LINEAR, 3) if name == "steps" else Process()
        (folder / "reference" / name).write_bytes(codec.encode(image, process))
    return folder


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_settings(
    setting: Setting, folder: Path, images: dict[str, NDArray[np.uint8]], codec: Codec
) -> None:
    """Each setting encodes to the reference's bytes, and decodes the reference's streams."""
    (folder / setting.name).mkdir()
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            json.dumps([setting.threads, setting.onednn]),
            setting.name,
        ],
        cwd=folder,
        env=os.environ | setting.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout.splitlines()[-1])
    assert report["exact"]
    for name, image in images.items():
        stream = (folder / setting.name / name).read_bytes()
        assert stream == (folder / "reference" / name).read_bytes(), name
        np.testing.assert_array_equal(codec.decode(stream), image)
    # The setting did what its name says, and inexact products were not used.
    if not report["int8_exact"]:
        assert report["backend"] == "float32"
    if setting.name == "without-onednn":
        assert report["backend"] == "float32"
    if setting.name == "plain-instruction-set":
        assert report["cpu"] == "DEFAULT"
    if setting.name == "generic-numba":
        assert any((folder / "numba-cache").rglob("*.nbc"))


@pytest.mark.skipif(choose_backend() != "int8", reason="no exact int8 products on this machine")
def test_both_ways_of_multiplying_give_the_same_stream(codec: Codec, photo: Photo) -> None:
    streams = []
    for backend in ("int8", "float32"):
        model = replace(codec.model, network=replace(codec.model.network, backend=backend))
        assert model.model_id == codec.model.model_id
        streams.append(Codec(model).encode(photo(70, 50)))
    assert streams[0] == streams[1]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads(codec: Codec, photo: Photo, threads: int) -> None:
    image = photo(90, 80)
    process = Process(steps=2)
    stream = Codec(codec.model, threads).encode(image, process)
    assert stream == codec.encode(image, process)
    np.testing.assert_array_equal(Codec(codec.model, threads).decode(stream), image)
