"""Identical bytes and pixels, whatever the threads, libraries' settings and instruction sets."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import pytest
from conftest import Photo
from numba import njit
from numpy.typing import NDArray

from source_codec import (
    Codec,
    Order,
    Process,
    Schedule,
    adaptation,
    features,
    logistic_mixture,
)

PROGRAM = """
import json, pathlib, sys
import llvmlite, numba, numpy as np

threads = json.loads(sys.argv[1])
from source_codec import Codec, Process, Order, Schedule
from source_codec.model import Model

codec = Codec(Model.load(), threads)
images = np.load("images.npz")
PROCESSES = {
    "small": Process(Order.HALTON),
    "steps": Process(Order.RANDOM, Schedule.LINEAR, 3),
    "fixed": Process(adaptive=False),
}
out, reference = pathlib.Path(sys.argv[2]), pathlib.Path("reference")
exact = True
for name, image in images.items():
    stream = codec.encode(image, PROCESSES.get(name, Process()), histories=False)
    (out / name).write_bytes(stream)
    decoded = codec.decode((reference / name).read_bytes())
    exact &= bool(np.array_equal(decoded, image))
# Together with others, in batches of another composition.
many = [name for name in images if name not in PROCESSES]
batch = [images[name] for name in many * 2] + [images["rgb"][::-1]]
streams = codec.encode_many(batch, histories=False)
together = all(
    stream == (reference / name).read_bytes() for name, stream in zip(many * 2, streams)
)
decoded = codec.decode_many([(reference / name).read_bytes() for name in list(images) * 2])
exact &= all(np.array_equal(*pair) for pair in zip(decoded, list(images.values()) * 2))
print(json.dumps({
    "exact": exact,
    "together": together,
    "torch": "torch" in sys.modules,
    "versions": [numba.__version__, np.__version__],
}))
"""
PROCESSES = {
    "small": Process(Order.HALTON),
    "steps": Process(Order.RANDOM, Schedule.LINEAR, 3),
    "fixed": Process(adaptive=False),
}
"""How the images of these names are coded; the others in the default way."""

OLDER = {"numba": "0.61.2", "llvmlite": "0.44.0", "numpy": "2.2.0"}
"""The oldest that pyproject.toml allows together, with a compiler of another generation."""
IN_CI = os.environ.get("CI") == "true"


@dataclass(frozen=True)
class Setting:
    """One way to run the codec.

    Attributes:
        name: of the setting, and of a folder.
        threads: of the codec.
        environment: variables; ``{folder}`` stands for a folder of the setting's own.
    """

    name: str
    threads: int = 2
    environment: dict[str, str] = field(default_factory=dict)


def compiled_anew(name: str, **environment: str) -> Setting:
    """A setting with kernels of its own, compiled into an empty cache."""
    cache = {"NUMBA_CACHE_DIR": f"{name}-cache"}
    return Setting(name, environment=environment | cache)


SETTINGS = [
    Setting("one-thread", threads=1),
    Setting("two-threads", threads=2),
    Setting("four-threads", threads=4),
    Setting("numpy-without-avx512", environment={"NPY_DISABLE_CPU_FEATURES": "AVX512F"}),
    compiled_anew("generic-numba", NUMBA_CPU_NAME="generic"),
    compiled_anew("numba-without-avx", NUMBA_ENABLE_AVX="0"),
    compiled_anew(
        "numba-without-avx512",
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES="+avx2,+bmi,+bmi2,+fma,+lzcnt,+popcnt,+sse4.2",
    ),
]


@pytest.fixture(scope="module")
def images(photo: Photo) -> dict[str, NDArray[np.uint8]]:
    """Images of each kind, some of them large enough for the model to adapt."""
    return {
        "rgb": photo(48, 40),
        "gray": photo(33, 17, 1),
        "pixel": photo(1, 1),
        "noise": np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8),
        "adaptive": photo(70, 63),
        "adaptive-gray": photo(67, 71, 1),
        "small": photo(40, 33),
        "steps": photo(90, 100),
        "fixed": photo(70, 63),
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
        stream = codec.encode(image, PROCESSES.get(name, Process()), histories=False)
        (folder / "reference" / name).write_bytes(stream)
    return folder


def test_adaptation_takes_part(folder: Path) -> None:
    """Else the matrix below would say nothing of it."""
    adaptive, fixed = ((folder / "reference" / name).read_bytes() for name in ("adaptive", "fixed"))
    assert adaptive[-100:] != fixed[-100:]


def check(
    setting: Setting, folder: Path, images: dict[str, NDArray[np.uint8]], codec: Codec
) -> dict[str, Any]:
    """Each setting encodes to the reference's bytes, and decodes the reference's streams."""
    (folder / setting.name).mkdir()
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            json.dumps(setting.threads),
            setting.name,
        ],
        cwd=folder,
        env=os.environ | setting.environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    report: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    assert report["exact"]
    assert report["together"]
    for name, image in images.items():
        stream = (folder / setting.name / name).read_bytes()
        assert stream == (folder / "reference" / name).read_bytes(), name
        np.testing.assert_array_equal(codec.decode(stream), image)
    # Whose products of matrices differ from machine to machine.
    assert not report["torch"]
    return report


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_settings(
    setting: Setting, folder: Path, images: dict[str, NDArray[np.uint8]], codec: Codec
) -> None:
    if setting.name == "numba-without-avx512" and not _has("avx512f"):
        pytest.skip("this processor has no AVX-512: all settings are without it")
    check(setting, folder, images, codec)
    # The setting did what its name says.
    if "NUMBA_CACHE_DIR" in setting.environment:
        assert any((folder / setting.environment["NUMBA_CACHE_DIR"]).rglob("*.nbc"))


@pytest.mark.skipif(not IN_CI, reason="downloads older libraries, 60 MB: only with CI=true")
def test_older_libraries(folder: Path, images: dict[str, NDArray[np.uint8]], codec: Codec) -> None:
    """The oldest compiler of the kernels, and the oldest numpy, that the project allows."""
    place = folder / "older"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place]
    wanted = [f"{name}=={version}" for name, version in OLDER.items()]
    subprocess.run([*map(str, install), *wanted], check=True, timeout=600)
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    setting = compiled_anew("older-libraries", PYTHONPATH=path)
    report = check(setting, folder, images, codec)
    assert report["versions"] == [OLDER["numba"], OLDER["numpy"]]


def _has(feature: str) -> bool:
    return bool(llvmlite.binding.get_host_cpu_features().get(feature))


FUSED = re.compile(r"\bv?fn?m(?:add|sub)\w*|\bfn?m(?:add|sub|la|ls)\b")
"""Fused multiply-adds in x86 and ARM assembly: they round once where two roundings are meant."""


def assembly(kernel: Any, signatures: list[Any], **options: Any) -> str:
    """Machine code of a kernel, compiled anew for this machine (a cached one has no listing)."""
    fresh = njit(nogil=True, **options)(kernel.py_func)
    for signature in signatures:
        fresh.compile(signature)
    return "\n".join(fresh.inspect_asm().values())


def float_kernels() -> dict[str, Callable[..., Any]]:
    return {
        "gradient": adaptation._gradient,
        "take_moments": adaptation._take_moments,
        "descend": adaptation._descend,
        "round": adaptation._round,
        "mixture": logistic_mixture._mixture,
        "extract": features._extract,
    }


@pytest.mark.parametrize("name", float_kernels())
def test_no_fused_multiply_add(name: str, codec: Codec, folder: Path) -> None:
    """In any of the kernels that compute with fractions, and what they call."""
    del folder  # coded images with adaptation: the kernels know their argument types
    kernel: Any = float_kernels()[name]
    text = assembly(kernel, kernel.nopython_signatures)
    assert len(text) > 2000
    assert not FUSED.findall(text)


def test_fused_multiply_adds_would_be_seen(folder: Path) -> None:
    """With relaxed floating point the same kernel has them, where the processor does."""
    if not (_has("fma") or _has("neon")):
        pytest.skip("this processor has no fused multiply-add")
    kernel: Any = adaptation._descend
    assert FUSED.search(assembly(kernel, kernel.nopython_signatures, fastmath=True))


def test_no_kernel_asks_for_relaxed_floating_point() -> None:
    for module in (adaptation, features, logistic_mixture):
        for kernel in vars(module).values():
            assert not getattr(kernel, "targetoptions", {}).get("fastmath")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads(codec: Codec, photo: Photo, threads: int) -> None:
    image = photo(90, 80)
    process = Process(steps=2)
    stream = Codec(codec.model, threads).encode(image, process)
    assert stream == codec.encode(image, process)
    np.testing.assert_array_equal(Codec(codec.model, threads).decode(stream), image)
