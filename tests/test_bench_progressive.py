"""The benchmarks of progressive decoding and of the codec's choices, on tiny images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Photo
from PIL import Image

from benchmarks import ablation, progressive
from source_codec import Codec, Order, Process
from source_codec.conversion import from_denoisers, untrained
from source_codec.network_shape import DenoiserShape
from sscc.cli import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model: it codes badly, but exactly."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    from_denoisers(untrained([DenoiserShape(width=16, blocks=(16,), head_width=8)] * 5)).save(path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_progressive(
    photo: Photo, codec: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int
) -> None:
    image = photo(40, 48, channels)
    Image.fromarray(image).save(tmp_path / "photo.png")
    output = tmp_path / "out"
    arguments = ["bench", "progressive", str(tmp_path / "photo.png"), "-o", str(output), "--json"]
    assert run(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["exact"] is True
    steps = result["steps"]
    payload = 8 * len(codec.encode(image, Process(Order.HALTON), histories=False))
    assert payload - 400 <= steps[-1]["bits"] <= payload
    assert steps[-1]["known"] == 1
    assert steps[-1]["psnr_db"] is None  # infinite
    assert [s["bits"] for s in steps] == sorted(s["bits"] for s in steps)
    assert [s["known"] for s in steps] == sorted(s["known"] for s in steps)
    assert steps[-1]["bpsp"] == pytest.approx(steps[-1]["bits"] / image.size)
    # Both become better with more bits.
    for name in ("psnr_db", "j2k_psnr_db", "j2k_lossy_psnr_db"):
        seen = [s[name] for s in steps[:-1] if s[name] is not None]
        assert len(seen) > len(steps) / 2
        assert seen[-1] > seen[len(seen) // 2] > seen[0]
    shares = [entry["share"] for entry in result["strip"]]
    assert shares == list(progressive.STRIP_SHARES)
    assert result["strip"][-1]["step"] == steps[-1]["step"]
    with Image.open(output / "strip.png") as strip:
        assert strip.width > 6 * 190
        assert np.ptp(np.asarray(strip)) == 255
    with Image.open(output / "progressive.png") as plot:
        assert plot.width == 840


@pytest.mark.parametrize("reversible", [False, True])
def test_jpeg_2000_keeps_to_the_size(photo: Photo, reversible: bool) -> None:
    image = photo(64, 72)
    whole = progressive.jpeg_2000(image, None, reversible=True)
    assert whole is not None
    np.testing.assert_array_equal(progressive._decoded(whole), image)
    for size in (len(whole) // 2, len(whole) // 5):
        data = progressive.jpeg_2000(image, size, reversible)
        assert data is not None
        assert 0.9 * size < len(data) <= size
    assert progressive.jpeg_2000(image, 40, reversible) is None


def test_nearest_steps() -> None:
    assert progressive.nearest_steps([1, 9, 40, 80, 100], (0.01, 0.1, 0.5, 1.0)) == [0, 1, 2, 4]


def test_ablation(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    for name in "abc":
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    output = tmp_path / "out"
    arguments = ["bench", "ablation", str(tmp_path), "-o", str(output), "--images", "2"]
    assert run([*arguments, "--side", "12", "--model", str(model), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert len(rows) == len(ablation.variants()) == 14
    assert rows[0]["group"] == "default"
    assert {row["images"] for row in rows} == {2}
    for row in rows:
        assert row["change_percent"] == pytest.approx(100 * (row["bpsp"] / rows[0]["bpsp"] - 1))
    assert any(row["change_percent"] for row in rows)
    with (output / "ablation.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["setting"] for row in written] == [row["setting"] for row in rows]
    assert len((output / "ablation.md").read_text().splitlines()) == 2 + len(rows)
    assert (output / "ablation.png").stat().st_size > 5000


def test_rows_change_one_thing(codec: Codec, photo: Photo) -> None:
    """Each row's stream tells of its setting; the default's row is what the codec does anyway."""
    image = np.repeat(photo(66, 64, 1)[..., None], 3, axis=2)  # has a history: it is gray
    streams = {row.group + row.setting: row.coded(codec, image) for row in ablation.variants()}
    assert streams["defaultall as they are"] == codec.encode(image)
    assert streams["historyoff"] == codec.encode(image, histories=False)
    assert streams["orderhalton"] == codec.encode(image)  # as it is for an image of this size
    # Temperature changes the model only.
    assert len(set(streams.values())) == len(streams) - 2
    untempered = ablation._without_temperature(codec.model)
    assert not untempered.temperature.any()
    assert codec.model.temperature.any()
    assert [row.process.order for row in ablation.variants()[1:5]] == list(Order)[:4]


def test_centre_crop() -> None:
    image = np.arange(7 * 10).reshape(7, 10).astype(np.uint8)
    np.testing.assert_array_equal(ablation.centre_crop(image, 4), image[1:5, 3:7])
    np.testing.assert_array_equal(ablation.centre_crop(image, 8), image[:, 1:9])
