"""The codec benchmark, on tiny images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import codec as bench
from benchmarks.codec import BASELINES, Baseline, compare, find_images, select_baselines
from source_codec.conversion import from_denoisers, untrained
from source_codec.network_shape import DenoiserShape
from sscc.cli import run
from sscc.errors import InputError

ALL = ["png", "webp", "jxl", "jxl7"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model: it codes badly, but exactly."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    from_denoisers(untrained([DenoiserShape(width=16, blocks=(16,), head_width=8)] * 5)).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with an RGB PNG, a gray TIFF, a stack of three, labels and a text."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 256, (9, 5), dtype=np.uint8)).save(folder / "b.tif")
    np.save(folder / "c.npy", rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", np.arange(3))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_all_codecs_are_exact(
    images: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    arguments = ["bench", "codec", images, "--against", ",".join(ALL), "--csv", table]
    arguments += ["--no-history"]
    status = run([*map(str, arguments), "--model", str(model), "--json"])
    captured = capsys.readouterr()
    assert status == 0
    codecs = json.loads(captured.out.splitlines()[-1])["codecs"]
    assert set(codecs) == {"ddm", *ALL}
    assert "labels.npy" in captured.err

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (1 + len(ALL))
    for name, figures in codecs.items():
        own = [row for row in rows if row["codec"] == name]
        assert [row["image"] for row in own] == ["a", "b", "c-0000", "c-0001", "c-0002"]
        assert figures["exact"] is True
        assert figures["images"] == 5
        sub_pixels = 12 * 17 * 3 + 9 * 5 + 3 * 8 * 8 * 3
        assert figures["bpsp"] == pytest.approx(8 * sum(int(r["bytes"]) for r in own) / sub_pixels)
        assert figures["encode_s"] == pytest.approx(np.median([float(r["encode_s"]) for r in own]))
        assert figures["decode_s"] > 0


def test_a_table_for_people(images: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "codec", str(images), "-a", "png", "-m", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "ddm" in shown
    assert "png" in shown
    assert "bpsp" in shown


def test_an_inexact_codec_shows(
    images: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    png = BASELINES["png"]
    lossy = Baseline(
        "loses the lowest bit", lambda image, n: png.encode(image & 254, n), png.decode
    )
    monkeypatch.setitem(bench.BASELINES, "png", lossy)
    arguments = ["bench", "codec", str(images), "-a", "png", "-m", str(model), "--json"]
    assert run(arguments) == 1
    codecs = json.loads(capsys.readouterr().out.splitlines()[-1])["codecs"]
    assert codecs["png"]["exact"] is False
    assert codecs["ddm"]["exact"] is True


def test_selection() -> None:
    assert select_baselines("png, jxl,png") == ["png", "jxl"]
    assert select_baselines("") == []
    with pytest.raises(InputError, match="bmp"):
        select_baselines("png,bmp")


def test_a_picture_that_cannot_be_taken_is_no_silent_gap(images: Path) -> None:
    Image.new("RGBA", (4, 4)).save(images / "z.png")
    with pytest.raises(InputError, match=r"z\.png"):
        find_images(images)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        find_images(tmp_path)


def test_one_file(images: Path) -> None:
    files, skipped = find_images(images / "c.npy")
    assert [len(file.images) for file in files] == [3]
    assert skipped == []


def test_figures_are_totals_and_medians() -> None:
    rows = [
        bench.Row("x", "a", 100, 10, 0.8, 1.0, 4.0, True),
        bench.Row("x", "b", 300, 90, 2.4, 2.0, 5.0, True),
        bench.Row("x", "c", 400, 100, 2.0, 9.0, 9.0, False),
    ]
    assert compare(rows) == {
        "x": {"bpsp": 2.0, "encode_s": 2.0, "decode_s": 5.0, "exact": False, "images": 3}
    }
