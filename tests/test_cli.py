"""The command line, called in-process; a few runs are real processes."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from flowgraphs.link import LinkConfig
from source_codec.conversion import from_denoisers
from source_codec.denoiser import Denoiser, DenoiserShape
from sscc.cli import link, run
from sscc.link_report import report_lines
from sscc.output import part_of, print_json

COMMANDS = ["encode", "decode", "info", "link", "bench codec", "train", "tx", "rx", "channel"]


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout.splitlines()[-1])

    def assert_refused(self, *words: str) -> None:
        """Exit status 2, nothing on stdout, and one line on stderr that has all the words."""
        assert self.status == 2
        assert self.stdout == ""
        assert self.stderr.startswith("sscc: ")
        assert self.stderr.count("\n") == 1
        for word in words:
            assert word in self.stderr


Sscc = Callable[..., Outcome]


@pytest.fixture
def sscc(capsys: pytest.CaptureFixture[str]) -> Sscc:
    def call(*arguments: object) -> Outcome:
        status = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model: it codes badly, but exactly."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    from_denoisers([Denoiser(DenoiserShape(width=16, blocks=1, head_width=8))] * 4).save(path)
    return path


def picture(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth random picture."""
    steps = np.random.default_rng(seed).integers(-4, 5, (height, width, channels))
    return (128 + np.cumsum(steps, axis=1)).clip(0, 255).astype(np.uint8).squeeze()


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    path = tmp_path / "rgb.png"
    Image.fromarray(picture()).save(path)
    return path


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    path = tmp_path / "gray.tif"
    Image.fromarray(picture(channels=1)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_only_working_commands_are_advertised(sscc: Sscc) -> None:
    listed = sscc("--help").stdout.split("Commands:")[1]
    assert listed.split("\n  ")[0] == ""
    names = [line.split()[0] for line in listed.splitlines() if line[:3].strip()]
    assert names == [name.split()[0] for name in COMMANDS if name != "bench codec"] + ["bench"]


@pytest.mark.parametrize("command", ["", *COMMANDS, "bench"])
def test_help_shows_an_example(sscc: Sscc, command: str) -> None:
    outcome = sscc(*command.split(), "--help")
    assert outcome.status == 0
    assert "Example:" in outcome.stdout
    assert f"sscc {command}" in outcome.stdout.split("Example:")[1]


def test_help_does_not_wait_for_heavy_imports() -> None:
    program = (
        "import sys; from sscc.cli import run; run(['--help'])\n"
        "print([m for m in ('torch', 'numba', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_small_images_do_not_wait_for_torch(model: Path, rgb: Path, tmp_path: Path) -> None:
    """Loading it takes longer than all the rest; nor for what only other commands use."""
    program = (
        "import sys; from pathlib import Path; from sscc.cli import run\n"
        f"image, model, folder = {[str(rgb), str(model), str(tmp_path)]}\n"
        "coded = str(Path(folder, Path(image).with_suffix('.ddm').name))\n"
        "assert run(['encode', image, '-m', model, '-o', folder]) == 0\n"
        "assert run(['decode', coded, '-m', model, '-o', folder]) == 0\n"
        "assert run(['info', coded, '-m', model]) == 0\n"
        "unused = 'torch', 'scipy.linalg', 'matplotlib', 'phy', 'benchmarks'\n"
        "print([m for m in unused if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_round_trip(sscc: Sscc, model: Path, rgb: Path, gray: Path, tmp_path: Path) -> None:
    coded, decoded = tmp_path / "coded", tmp_path / "decoded"
    encode = sscc("encode", rgb, gray, "-o", coded, "--model", model, "--json")
    assert encode.status == 0
    assert encode.stderr == ""
    files = encode.json["files"]
    assert [f["name"] for f in files] == ["rgb.ddm", "gray.ddm"]
    for file, sub_pixels in zip(files, (1800, 600), strict=True):
        assert file["bytes"] == (coded / file["name"]).stat().st_size
        assert file["bpsp"] == pytest.approx(8 * file["bytes"] / sub_pixels)
        assert file["seconds"] > 0
    assert encode.json["bpsp"] == pytest.approx(8 * sum(f["bytes"] for f in files) / 2400)

    streams = [coded / "rgb.ddm", coded / "gray.ddm"]
    decode = sscc("decode", *streams, "-o", decoded, "--model", model, "--json")
    assert decode.status == 0
    assert [(f["name"], f["exact"]) for f in decode.json["files"]] == [
        ("rgb.png", True),
        ("gray.png", True),
    ]
    assert np.array_equal(pixels(decoded / "rgb.png"), pixels(rgb))
    assert np.array_equal(pixels(decoded / "gray.png"), pixels(gray))


def test_reports_for_people(sscc: Sscc, model: Path, rgb: Path, tmp_path: Path) -> None:
    encode = sscc("encode", rgb, "-o", tmp_path, "-m", model)
    assert "rgb.ddm" in encode.stdout
    assert "bpsp" in encode.stdout
    decode = sscc("decode", tmp_path / "rgb.ddm", "-o", tmp_path / "d", "-m", model)
    assert "exact" in decode.stdout
    info = sscc("info", tmp_path / "rgb.ddm", "-m", model)
    assert "halton" in info.stdout
    assert "step" in info.stdout


@pytest.mark.parametrize("channels", [1, 3])
def test_stack(sscc: Sscc, model: Path, tmp_path: Path, channels: int) -> None:
    stack = np.stack([picture(8, 9, channels, seed) for seed in range(3)])
    np.save(tmp_path / "stack.npy", stack)
    encode = sscc("encode", tmp_path / "stack.npy", "-o", tmp_path, "--model", model, "--json")
    assert encode.status == 0
    names = [f["name"] for f in encode.json["files"]]
    assert names == ["stack-0000.ddm", "stack-0001.ddm", "stack-0002.ddm"]
    streams = [tmp_path / name for name in names]
    assert sscc("decode", *streams, "-o", tmp_path, "--model", model).status == 0
    for index, image in enumerate(stack):
        assert np.array_equal(pixels(tmp_path / f"stack-000{index}.png"), image)


def test_array_of_one_image(sscc: Sscc, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", picture(8, 9))
    outcome = sscc("encode", tmp_path / "one.npy", "-o", tmp_path, "--model", model, "--json")
    assert [f["name"] for f in outcome.json["files"]] == ["one.ddm"]


def test_process_and_info(sscc: Sscc, model: Path, rgb: Path, tmp_path: Path) -> None:
    options = ["--order", "checkerboard", "--schedule", "linear", "--steps", "5"]
    sscc("encode", rgb, "-o", tmp_path, "--model", model, *options)
    info = sscc("info", tmp_path / "rgb.ddm", "--model", model, "--json").json
    assert (info["order"], info["schedule"], info["steps"]) == ("checkerboard", "linear", 5)
    assert (info["width"], info["height"], info["channels"]) == (30, 20, 3)
    assert info["header_bytes"] + info["payload_bytes"] == info["bytes"]
    assert len(info["step_bits"]) == 5
    # The coder may close a stream with fewer bits than it counts while open, or with one more word.
    assert sum(info["step_bits"]) == pytest.approx(8 * info["payload_bytes"], abs=64)
    header = sscc("info", tmp_path / "rgb.ddm", "--header-only", "--json").json
    assert header == {key: value for key, value in info.items() if key != "step_bits"}


def test_progressive(sscc: Sscc, model: Path, rgb: Path, tmp_path: Path) -> None:
    sscc("encode", rgb, "-o", tmp_path, "--model", model, "--steps", "6")
    steps = tmp_path / "steps"
    outcome = sscc(
        "decode", tmp_path / "rgb.ddm", "-o", tmp_path / "d", "--progressive", steps, "-m", model
    )
    assert outcome.status == 0
    frames = sorted(steps.iterdir())
    assert [f.name for f in frames] == [f"rgb-00{n}.png" for n in range(1, 7)]
    assert np.array_equal(pixels(frames[-1]), pixels(rgb))
    assert np.array_equal(pixels(tmp_path / "d" / "rgb.png"), pixels(rgb))


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_file_is_reported_and_the_others_decoded(
    sscc: Sscc, model: Path, tmp_path: Path, progressive: bool
) -> None:
    for name in "abc":
        Image.fromarray(picture(seed=ord(name))).save(tmp_path / f"{name}.png")
    sscc("encode", *(tmp_path / f"{n}.png" for n in "abc"), "-o", tmp_path, "--model", model)
    data = bytearray((tmp_path / "b.ddm").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.ddm").write_bytes(data)
    streams = [tmp_path / f"{n}.ddm" for n in "abc"]
    extra = ["--progressive", tmp_path / "steps"] if progressive else []
    outcome = sscc("decode", *streams, "-o", tmp_path / "d", "-m", model, "--json", *extra)
    assert outcome.status == 2
    assert outcome.stderr.count("\n") == 1
    assert "b.ddm" in outcome.stderr
    assert [f["exact"] for f in outcome.json["files"]] == [True, False, True]
    assert sorted(f.name for f in (tmp_path / "d").iterdir()) == ["a.png", "c.png"]


def test_file_of_another_model(sscc: Sscc, model: Path, rgb: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    from_denoisers([Denoiser(DenoiserShape(width=16, blocks=1, head_width=8))] * 4).save(other)
    sscc("encode", rgb, "-o", tmp_path, "--model", other)
    sscc("info", tmp_path / "rgb.ddm", "--model", model).assert_refused("rgb.ddm", "model")
    outcome = sscc("decode", tmp_path / "rgb.ddm", "-o", tmp_path / "d", "--model", model)
    outcome.assert_refused("rgb.ddm", "model")


def _palette(path: Path) -> None:
    Image.fromarray(picture()).quantize(8).save(path)


def _alpha(path: Path) -> None:
    Image.fromarray(picture()).convert("RGBA").save(path)


def _gray_alpha(path: Path) -> None:
    Image.fromarray(picture(channels=1)).convert("LA").save(path)


def _transparent_colour(path: Path) -> None:
    Image.fromarray(picture()).save(path, transparency=(1, 2, 3))


def _deep_rgb(path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(picture().astype(np.uint16) * 257))


def _deep_gray(path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(picture(channels=1).astype(np.uint16) * 257))


def _bilevel(path: Path) -> None:
    Image.fromarray(picture(channels=1)).convert("1").save(path)


def _animation(path: Path) -> None:
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _text(path: Path) -> None:
    path.write_text("no image")


def _truncated(path: Path) -> None:
    Image.fromarray(picture()).save(path)
    path.write_bytes(path.read_bytes()[:-300])


def _with_profile_and_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(picture())
    image.save(path, icc_profile=profile, exif=exif, dpi=(300, 300))


@pytest.mark.parametrize(
    "make",
    [
        _palette,
        _alpha,
        _gray_alpha,
        _transparent_colour,
        _deep_rgb,
        _deep_gray,
        _bilevel,
        _with_profile_and_exif,
    ],
)
def test_pictures_of_all_kinds_come_back(
    sscc: Sscc, model: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """PNG in, PNG out: the same mode, depth, samples, palette and metadata, to other readers."""
    path = tmp_path / "picture.png"
    make(path)
    assert sscc("encode", path, "-o", tmp_path, "--model", model).status == 0
    outcome = sscc("decode", tmp_path / "picture.ddm", "-o", tmp_path / "d", "--model", model)
    assert outcome.status == 0
    returned = tmp_path / "d" / "picture.png"
    samples = [imagecodecs.png_decode(p.read_bytes()) for p in (path, returned)]
    assert samples[0].dtype == samples[1].dtype
    np.testing.assert_array_equal(*samples)
    with Image.open(path) as before, Image.open(returned) as after:
        assert after.mode == before.mode
        assert after.getpalette() == before.getpalette()
        for name in ("icc_profile", "transparency", "exif", "dpi"):
            assert after.info.get(name) == before.info.get(name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_animation, "several frames"),
        (_text, "not an image"),
        (_truncated, "damaged"),
    ],
)
def test_refused_pictures(
    sscc: Sscc, model: Path, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "picture.png"
    make(path)
    outcome = sscc("encode", path, "-o", tmp_path / "coded", "--model", model)
    outcome.assert_refused("picture.png", reason)
    assert not list((tmp_path / "coded").iterdir())


def test_deep_tiff_is_refused(sscc: Sscc, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(imagecodecs.tiff_encode(picture().astype(np.uint16) * 257))
    sscc("encode", path, "-o", tmp_path, "--model", model).assert_refused("RGB;16L")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((2, 8, 8, 3), np.uint16), "uint16"),
        (np.zeros((2, 8, 8, 4), np.uint8), "shape"),
        (np.zeros(8, np.uint8), "shape"),
        (np.zeros((0, 8, 8, 3), np.uint8), "empty"),
        (np.zeros((1, 4097), np.uint8), "4096"),
        (np.array([{}], dtype=object), "not a .npy array"),
    ],
)
def test_refused_arrays(
    sscc: Sscc, model: Path, tmp_path: Path, array: np.ndarray, reason: str
) -> None:
    np.save(tmp_path / "array.npy", array)
    outcome = sscc("encode", tmp_path / "array.npy", "-o", tmp_path / "coded", "--model", model)
    outcome.assert_refused("array.npy", reason)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["command", "sscc --help"]),
        ("transmit", ["transmit"]),
        ("encode", ["images", "sscc encode --help"]),
        ("encode missing.png", ["missing.png", "does not exist"]),
        ("encode . -o x", ["is a directory"]),
        ("encode {image} --colour", ["--colour"]),
        ("encode {image} --order zigzag -m {model}", ["zigzag"]),
        ("encode {image} --schedule square -m {model}", ["square"]),
        ("encode {image} --steps 256", ["--steps", "255"]),
        ("encode {image} --threads 0", ["--threads"]),
        ("encode {image} --model missing.safetensors", ["missing.safetensors"]),
        ("encode {image} -o {image} -m {model}", ["rgb.png"]),
        ("encode {image} {image} -o {folder} -m {model}", ["already made"]),
        ("decode {image} {image} -o {folder} -m {model}", ["both become"]),
        ("decode {image} -o {folder} -m {model}", ["rgb.png", "not a .ddm"]),
        ("info {image} -m {model}", ["rgb.png", "not a .ddm"]),
        ("link {image} --channel rain", ["rain", "rayleigh"]),
        ("link {image} --mcs qpsk-1/7", ["qpsk-1/7", "qpsk-1/2"]),
        ("link {image} --csi guess", ["guess", "perfect"]),
        ("link {image} --waveform morse", ["morse", "single-carrier"]),
        ("link {image} --cfo 1000", ["ideally timed", "single-carrier"]),
        ("link {image} --snr nan", ["es_n0_db"]),
        ("link {image} --snr 4000", ["es_n0_db", "-200 to 200 dB", "not 4000"]),
        ("link {image} --snr -4000", ["es_n0_db", "-200 to 200 dB", "not -4000"]),
        ("link {image} --depth 65", ["depth", "1 ... 64 frames, not 65"]),
        ("link {image} --doppler 1e9", ["Doppler", "1000000000.0 Hz", "100000.0 Hz"]),
        ("link {image} --symbol-rate nan", ["--symbol-rate"]),
        ("link {image} --snr -", ["--snr"]),
        ("link {image} --profile radio", ["radio", "simulated"]),
        ("link {image} --symbol-rate 1e12", ["1e+12"]),
        ("bench codec {folder}/rgb.png --against gif -m {model}", ["gif", "webp"]),
    ],
)
def test_bad_arguments(
    sscc: Sscc, model: Path, rgb: Path, tmp_path: Path, arguments: str, words: list[str]
) -> None:
    filled = arguments.format(image=rgb, model=model, folder=tmp_path)
    sscc(*filled.split()).assert_refused(*words)


def test_link_brings_the_image(sscc: Sscc, model: Path, gray: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = sscc(
        *("link", gray, "--channel", "awgn", "--snr", 12, "-o", out, "--model", model, "--json")
    )
    assert outcome.status == 0
    assert outcome.json["exact"] is True
    assert outcome.json["stage_failed"] is None
    assert outcome.json["es_n0_db"] == 12.0
    assert np.array_equal(pixels(out / "gray-received.png"), pixels(gray))
    assert pixels(out / "gray-link.png").size > 0


@pytest.mark.parametrize("waveform", ["single-carrier", "ofdm"])
def test_link_over_a_synchronized_waveform(
    sscc: Sscc, model: Path, gray: Path, waveform: str
) -> None:
    outcome = sscc(
        *("link", gray, "--waveform", waveform, "--channel", "awgn", "--snr", 6),
        *("--cfo", 150_000, "--clock-offset", -30, "--model", model, "--json"),
    )
    assert outcome.status == 0
    assert outcome.json["exact"] is True
    assert outcome.json["snr_estimated_db"] == pytest.approx(6, abs=0.7)


def test_link_that_fails_leaves_no_image(
    sscc: Sscc, model: Path, gray: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["link", gray, "--channel", "awgn", "-o", out, "--model", model]
    assert sscc(*arguments, "--snr", 12).status == 0
    outcome = sscc(*arguments, "--snr", -20)
    assert outcome.status == 1
    assert "Failed stage" in outcome.stdout
    assert [f.name for f in out.iterdir()] == ["gray-link.png"]


@pytest.mark.parametrize("snr", [-200, 200])
def test_link_at_the_ends_of_the_snr(sscc: Sscc, model: Path, gray: Path, snr: int) -> None:
    arguments = ["--channel", "awgn", "--snr", snr, "--symbol-rate", 1]
    outcome = sscc("link", gray, *arguments, "--model", model, "--json")
    assert outcome.status == (0 if snr > 0 else 1)
    assert outcome.json["exact"] is (snr > 0)
    assert outcome.json["psnr_db"] is None


def test_link_says_what_its_null_means(sscc: Sscc) -> None:
    text = " ".join(sscc("link", "--help").stdout.split())
    assert "psnr_db is null: infinite if exact, undefined if no image" in text


def test_message_too_long_for_the_scheme(
    sscc: Sscc, rgb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wasteful:
        def encode(self, image: np.ndarray) -> bytes:
            return bytes(2**21)

    monkeypatch.setattr("source_codec.Codec.load", lambda *_: Wasteful())
    outcome = sscc("link", rgb, "--mcs", "bpsk-1/3", "--depth", 1)
    outcome.assert_refused("rgb.png", "2097152 bytes need", "choose a higher rate")


def test_link_defaults_are_those_of_the_flowgraph() -> None:
    renamed = {
        "snr": "es_n0_db",
        "doppler": "doppler_hz",
        "cfo": "cfo_hz",
        "clock_offset": "clock_ppm",
    }
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(link).parameters.items()
        if name in {field.name for field in fields(LinkConfig)} | set(renamed)
    }
    assert {renamed.get(name, name): v for name, v in options.items()} == asdict(LinkConfig())


TRAINING = """
minutes = 0.01
batch = 256
crop = 32

[expert.sparse]
width = 16
blocks = 1
head_width = 8

[expert.half]
width = 16
blocks = 1
head_width = 8

[expert.dense]
width = 16
blocks = 1
head_width = 8

[expert.small]
width = 24
blocks = 1
head_width = 8

[[source]]
folder = "photos"
"""


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of a run of less than a second, on small images."""
    monkeypatch.setattr("source_codec.export.SMALL_IMAGES", 1)  # calibrates badly, but soon
    monkeypatch.setattr("source_codec.training.VALIDATION_PIXELS", 1000)
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        Image.fromarray(picture(40, 40, 3, seed)).save(photos / f"{seed}.png")
    config = tmp_path / "tiny.toml"
    config.write_text(TRAINING)
    return config


def test_train_makes_a_model_that_codes(
    sscc: Sscc, rgb: Path, training: Path, tmp_path: Path
) -> None:
    model = tmp_path / "tiny.safetensors"
    outcome = sscc("train", training, "--run", tmp_path / "run", "-o", model, "--json")
    assert outcome.status == 0
    report = outcome.json
    assert report["finished"]
    assert report["model"] == str(model)
    assert report["steps"] == report["steps_by_expert"]["small"] > 0
    assert len(report["validation_bpsp"]["photos:native"]) == 2
    lines = outcome.stderr.splitlines()
    assert "min left" in lines[0]
    assert "photos:native" in lines[0]
    assert lines[-1] == (
        "sscc: no training images for sparse, half, dense: these experts are still random"
    )
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"checkpoint.pt", "log.csv", "loss.png"}
    assert sscc("encode", rgb, "-o", tmp_path, "--model", model).status == 0
    assert sscc("decode", tmp_path / "rgb.ddm", "-o", tmp_path / "d", "-m", model).status == 0


def test_interrupted_training_goes_on(
    sscc: Sscc, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the fourth step: state saved, how to go on said; then the rest of the run."""
    from source_codec.training import Trainer

    update = Trainer.update

    def interrupted(self: Trainer, *arguments: Any) -> float:
        if sum(self.steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    run_folder = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    training.write_text(TRAINING.replace("minutes = 0.01", "minutes = 5"))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        outcome = sscc("train", training, "--run", run_folder, "--json")
    assert outcome.status == 1
    assert not outcome.json["finished"]
    assert outcome.json["steps"] == 4
    assert outcome.json["model"] is None
    assert "same command" in outcome.stderr.splitlines()[-1]
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (run_folder / "model.safetensors").exists()

    minutes = outcome.json["minutes"] + 0.01
    training.write_text(TRAINING.replace("minutes = 0.01", f"minutes = {minutes}"))
    outcome = sscc("train", training, "--run", run_folder, "--json")
    assert outcome.status == 0
    assert outcome.json["steps"] > 4
    assert (run_folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minutes =", ["tiny.toml"]),
        ("minutes = 1", ["tiny.toml", "source"]),
        (TRAINING.replace("crop", "colour"), ["tiny.toml", "colour"]),
        (TRAINING.replace("photos", "pictures"), ["pictures", "PNG"]),
        (TRAINING + 'exclude = ["1.png", "2.png"]', ["photos", "single image", "validation"]),
        (TRAINING + 'transform = "reduced"', ["2 of 2", "48x48", "factors"]),
        (TRAINING.replace("photos", "gray"), ["gray", "transform"]),
        ('start_from = "default"' + TRAINING, ["sparse of default", "width 16"]),
        ('start_from = "mine.pt"' + TRAINING, ["mine.pt", "checkpoint"]),
        ('start_from = "nothing"' + TRAINING, ["nothing"]),
    ],
)
def test_train_refuses(
    sscc: Sscc, training: Path, tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "gray").mkdir()
    for seed in range(3):
        Image.fromarray(picture(40, 40, 1, seed)).save(tmp_path / "gray" / f"{seed}.png")
    training.write_text(text)
    sscc("train", training, "--run", tmp_path / "run").assert_refused(*words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_train_refuses_a_device_that_is_not_there(sscc: Sscc, training: Path) -> None:
    sscc("train", training, "--device", "cuda").assert_refused("CUDA", "cpu")
    sscc("train", training, "--device", "tpu").assert_refused("tpu", "cuda")


def test_real_process(model: Path, rgb: Path, tmp_path: Path) -> None:
    def sscc(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sscc", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    good = sscc("encode", rgb, "-o", tmp_path, "--model", model, "--json")
    assert good.returncode == 0
    assert good.stderr == ""
    assert json.loads(good.stdout.splitlines()[-1])["files"][0]["name"] == "rgb.ddm"
    bad = sscc("encode", tmp_path / "missing.png")
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "Traceback" not in bad.stderr


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        {"a": float("inf"), "b": [np.float64("nan"), np.int32(3)], "c": np.arange(2), "d": None}
    )
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"a": None, "b": [None, 3], "c": [0, 1], "d": None}


def test_progress_of_a_part() -> None:
    seen: list[float] = []
    part = part_of(part_of(seen.append, 0.5, 0.5), 0.0, 0.5)
    part(0.0)
    part(1.0)
    assert seen == [0.5, 0.75]


def test_link_report_leaves_out_what_does_not_apply() -> None:
    report = {
        "exact": False,
        "psnr_db": None,
        "bits": 1234567,
        "bpsp": 2.9,
        "channel_uses": 5000,
        "blocks": 4,
        "block_errors": 1,
        "es_n0_db": -5.0,
        "esrc_n0_db": -3.25,
        "snr_estimated_db": -4.9,
        "evm_db": 4.0,
        "stage_failed": "ldpc",
        "mcs": "qpsk-1/2",
    }
    lines = report_lines(report)
    assert lines[0].split() == ["Pixels", "exact", "NO"]
    assert lines[1].split() == ["Failed", "stage", "ldpc"]
    assert not any("PSNR" in line for line in lines)
    assert any("1,234,567" in line for line in lines)
