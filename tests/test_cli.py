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
from numba import njit
from PIL import Image, ImageCms

import hw_profiles
from flowgraphs.closed_loop import Exchange
from flowgraphs.impairments import LinkImpairments
from flowgraphs.link import LinkConfig
from hw_profiles import load_profile, profile_names
from source_codec.conversion import from_denoisers, untrained
from source_codec.network_shape import DenoiserShape
from sscc.cli import link, run
from sscc.link_report import report_lines
from sscc.output import part_of, print_json, progress_bar
from sscc.quantities import seconds

COMMANDS = [
    "encode", "decode", "info", "link", "train", "tx", "rx", "channel", "capture", "replay",
]  # fmt: skip
GROUPS = {"bench": ["codec"], "profiles": ["list", "show", "check"]}
SUBCOMMANDS = [f"{group} {name}" for group, names in GROUPS.items() for name in names]


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
    from_denoisers(untrained([DenoiserShape(width=16, blocks=(16,), head_width=8)] * 5)).save(path)
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
    assert names == [*COMMANDS, *GROUPS]


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS, *SUBCOMMANDS])
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
    assert "wavefront" in info.stdout
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
    sscc("encode", rgb, "-o", tmp_path, "-m", model, "--order", "halton", "--steps", "6")
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
    from_denoisers(untrained([DenoiserShape(width=16, blocks=(16,), head_width=8)] * 5)).save(other)
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
        ("link {image} --adc-bits 8", ["ideally timed", "single-carrier"]),
        ("link {image} --channel tdl-a", ["tdl-a", "single-carrier"]),
        ("link {image} --delay-spread 3min", ["3min", "not a number"]),
        ("link {image} --delay-spread -3ns", ["-3ns", "negative"]),
        ("link {image} --waveform ofdm --channel tdl-c --delay-spread 1ms", ["delay", "2048"]),
        ("link {image} --waveform ofdm --phase-noise -80", ["-80", "'@'"]),
        ("link {image} --waveform ofdm --phase-noise -80@0", ["-80 dBc/Hz at 0 Hz"]),
        ("link {image} --waveform ofdm --phase-noise -80@9,-90@9", ["offsets", "ascend"]),
        ("link {image} --waveform ofdm --iq-imbalance 1", ["2 numbers"]),
        ("link {image} --waveform ofdm --iq-imbalance 1,inf", ["inf", "not a number"]),
        ("link {image} --waveform ofdm --agc 1ms,0s", ["decay_s", "positive"]),
        ("link {image} --waveform ofdm --adc-bits 25", ["--adc-bits", "24"]),
        ("link {image} --waveform ofdm --clipping-level -1", ["clipping_db", "0 to 120"]),
        ("link {image} --waveform ofdm --level 200", ["level_db", "-120 to 120"]),
        ("link {image} --waveform ofdm --amplifier-backoff 999", ["input_backoff_db"]),
        ("link {image} --snr nan", ["es_n0_db"]),
        ("link {image} --snr 4000", ["es_n0_db", "-200 to 200 dB", "not 4000"]),
        ("link {image} --snr -4000", ["es_n0_db", "-200 to 200 dB", "not -4000"]),
        ("link {image} --harq 16", ["max_rounds", "1 ... 15, not 16"]),
        ("link {image} --depth 65", ["depth", "1 ... 64 frames, not 65"]),
        ("link {image} --doppler 1e9", ["Doppler", "1000000000.0 Hz", "100000.0 Hz"]),
        ("link {image} --symbol-rate nan", ["--symbol-rate"]),
        ("link {image} --snr -", ["--snr"]),
        ("link {image} --profile radio", ["radio", "simulated"]),
        ("link {image} --symbol-rate 1e12", ["simulated", "1000 GHz", "nearest is 1 GHz"]),
        ("link {image} --profile pluto", ["pluto", "single-carrier"]),
        ("link {image} --profile airspy-mini --waveform ofdm", ["2 MHz", "nearest is 3 MHz"]),
        (
            "link {image} --profile pluto --waveform ofdm --frequency 5.8e9",
            ["5.8 GHz", "nearest is 3.8 GHz"],
        ),
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
    assert outcome.json["diagnosis"] == []
    assert all(
        frame["detected"] and frame["header_ok"] and frame["payload_ok"]
        for frame in outcome.json["frames"]
    )


def test_link_with_harq_brings_what_one_round_does_not(sscc: Sscc, model: Path, gray: Path) -> None:
    """QPSK 3/4 needs 4 dB once; at 2 dB two rounds make 3/8 of it."""
    arguments = ["link", gray, "--channel", "awgn", "--snr", 2, "--mcs", "qpsk-3/4"]
    outcome = sscc(*arguments, "--model", model, "--json")
    assert outcome.status == 1
    once = outcome.json
    assert (once["exact"], once["rounds"], once["return_channel_uses"]) == (False, None, None)
    outcome = sscc(*arguments, "--harq", 4, "--model", model, "--json")
    assert outcome.status == 0
    rounds = outcome.json
    assert rounds["exact"]
    assert (rounds["rounds"], rounds["block_errors"], rounds["feedback_lost"]) == (2, 0, 0)
    assert rounds["blocks_retransmitted"] == rounds["blocks"]
    assert rounds["feedback_sent"] == 2
    assert rounds["forward_channel_uses"] == 2 * once["channel_uses"]
    both = rounds["forward_channel_uses"] + rounds["return_channel_uses"]
    assert rounds["channel_uses"] == both
    text = sscc(*arguments, "--harq", 4, "--model", model).stdout
    assert "Blocks retransmitted" in text


FAULTS = (
    *("--channel", "tdl-a", "--delay-spread", "100ns", "--doppler", 50, "--snr", 15),
    *("--cfo", -90_000, "--carrier-drift", 500, "--clock-offset", 20, "--phase-noise=-95@1e4"),
    *("--iq-imbalance", "0.5,2", "--dc", -25, "--amplifier-backoff", 9, "--agc", "100us,10ms"),
    *("--adc-bits", 10),
)


@pytest.mark.parametrize("waveform", ["single-carrier", "ofdm"])
def test_link_with_every_fault(sscc: Sscc, model: Path, gray: Path, waveform: str) -> None:
    outcome = sscc(
        *("link", gray, "--waveform", waveform, *FAULTS, "--seed", 2, "--model", model, "--json")
    )
    assert outcome.json["exact"] is True
    assert outcome.json["clipped_samples"] >= 0
    assert outcome.json["snr_estimated_db"] < 20


def test_clipping_is_counted_and_shown(sscc: Sscc, model: Path, gray: Path) -> None:
    """At 6 dB over the root mean square OFDM's peaks exceed full scale; at 20 dB none do."""
    arguments = ("link", gray, "--waveform", "ofdm", "--channel", "awgn", "--snr", 20)
    arguments += ("--adc-bits", 8, "--model", model)
    clipped = sscc(*arguments, "--clipping-level", 6, "--json").json
    free = sscc(*arguments, "--clipping-level", 20, "--json").json
    assert clipped["exact"] is free["exact"] is True
    assert free["clipped_samples"] == 0
    assert clipped["clipped_samples"] > 100
    assert clipped["snr_estimated_db"] < free["snr_estimated_db"] - 0.5
    lines = sscc(*arguments, "--clipping-level", 6).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("Clipped samples"))
    assert line.split() == ["Clipped", "samples", f"{clipped['clipped_samples']:,}"]


def test_profiles_are_listed(sscc: Sscc) -> None:
    names = [profile["name"] for profile in sscc("profiles", "list", "--json").json["profiles"]]
    assert names == profile_names()
    assert len(names) >= 13
    text = sscc("profiles", "list").stdout
    assert all(name in text for name in names)
    rows = sscc("profiles", "list", "--markdown").stdout.splitlines()
    (pluto,) = (row for row in rows if row.startswith("| pluto |"))
    assert pluto == (
        "| pluto | 325 MHz to 3.8 GHz | 65.2 kHz to 61.44 MHz | full | 12 "
        "| cs16 to 2048 / cs16 to 32768 | 25 ppm |"
    )
    documented = Path(__file__).parents[1] / "docs" / "hardware.md"
    assert "\n".join(rows) in documented.read_text(), "the table in docs/hardware.md is old"


def test_a_profile_is_shown_with_its_sources(sscc: Sscc) -> None:
    stdout = sscc("profiles", "show", "hackrf-one").stdout
    lines = [" ".join(line.split()) for line in stdout.splitlines()]
    assert "rx.full_scale 128" in lines
    assert "rx.gain LNA 0 to 40 dB by 8 dB; default 16" in lines
    shown = " ".join(lines)
    for source in load_profile("hackrf-one").sources.values():
        assert source in shown
    shown = sscc("profiles", "show", "airspy-hf-plus", "--json").json
    assert shown["rx"]["gain"][1]["sign"] == "attenuation"
    assert shown["tx"] is None
    sscc("profiles", "show", "airspy").assert_refused("airspy", "airspy-mini")


def test_profiles_are_checked(sscc: Sscc, tmp_path: Path) -> None:
    assert sscc("profiles", "check").status == 0
    assert sscc("profiles", "check", "pluto").stdout == "pluto: valid\n"
    text = (Path(hw_profiles.__file__).parent / "pluto.toml").read_text()
    good, bad = tmp_path / "pluto.toml", tmp_path / "radio.toml"
    good.write_text(text)
    bad.write_text(
        text.replace('name = "pluto"', 'name = "radio"').replace("bits = 12", "bits = 0")
    )
    outcome = sscc("profiles", "check", good, bad, "walkie-talkie")
    assert outcome.status == 1
    lines = outcome.stdout.splitlines()
    assert lines[0] == f"{good}: valid"
    assert "rx.bits must be at least 1, not 0" in lines[1]
    assert "walkie-talkie" in lines[2]
    assert "choose one of" in lines[2]
    results = sscc("profiles", "check", bad, "--json").json["profiles"]
    assert [(r["valid"], "rx.bits" in r["reason"]) for r in results] == [(False, True)]


def test_link_options_stand_in_groups(sscc: Sscc) -> None:
    lines = sscc("link", "--help").stdout.splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Arguments:",
        "Options:",
        "Channel:",
        "Radios (not for the waveform symbols):",
    ]
    place = {
        word: number
        for number, line in enumerate(lines)
        for word in line.split()[:2]
        if word.startswith("--")
    }
    channel, radios = (lines.index(heading) for heading in headings[2:])
    assert place["--snr"] < channel < place["--delay-spread"] < radios < place["--adc-bits"]


def test_link_that_fails_leaves_no_image(
    sscc: Sscc, model: Path, gray: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["link", gray, "--channel", "awgn", "-o", out, "--model", model]
    assert sscc(*arguments, "--snr", 12).status == 0
    outcome = sscc(*arguments, "--snr", -20)
    assert outcome.status == 1
    assert "Failed stage" in outcome.stdout
    assert "no preamble; noise or other signals at 20." in outcome.stdout.splitlines()[-1]
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
        "carrier_drift": "carrier_drift_hz_per_s",
        "clock_offset": "clock_ppm",
        "dc": "dc_dbc",
        "frequency": "frequency_hz",
        "amplifier_backoff": "amplifier_backoff_db",
        "level": "level_db",
        "agc": "agc_s",
        "clipping_level": "clipping_db",
    }
    known = {field.name for kind in (LinkConfig, LinkImpairments) for field in fields(kind)}
    parameters = inspect.signature(link).parameters.items()
    options = {renamed.get(name, name): parameter.default for name, parameter in parameters}
    options["delay_spread_s"] = seconds(options.pop("delay_spread"))
    assert (options.pop("phase_noise"), options.pop("iq_imbalance")) == (None, None)
    defaults = asdict(LinkConfig())
    defaults |= defaults.pop("impairments")
    no_imbalance = [defaults.pop(name) for name in ("iq_gain_db", "iq_phase_deg", "phase_noise")]
    assert no_imbalance == [0.0, 0.0, ()]
    assert {name: value for name, value in options.items() if name in known} == defaults


TRAINING = """
minutes = 0.01
batch = 256
crop = 32

[expert.sparse]
width = 16
blocks = [16]
head_width = 8

[expert.half]
width = 16
blocks = [16]
head_width = 8

[expert.dense]
width = 16
blocks = [16]
head_width = 8

[expert.small]
width = 24
blocks = [16]
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
    steps = report["steps_by_expert"]
    assert report["steps"] == steps["small"] + steps["wavefront"] > 0
    assert len(report["validation_bpsp"]["photos:native"]) == 2
    lines = outcome.stderr.splitlines()
    assert "min left" in lines[0]
    assert "photos:native" in lines[0]
    # So short a run may have no image for "small" either.
    assert lines[-1].startswith("sscc: no training images for sparse, half, dense")
    assert lines[-1].endswith(": these experts are still random")
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


def test_progress_bar_tells_of_compilation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    kernel = njit(lambda x: x + 1)
    with progress_bar("encoding"):
        assert "compiling" not in capsys.readouterr().err
        kernel(1)
        shown = capsys.readouterr().err
        assert shown.index("compiling, for the first use only") < shown.rindex("encoding")
        kernel(2)
        assert "compiling" not in capsys.readouterr().err


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
        "clipped_samples": 0,
        "stage_failed": "ldpc",
        "mcs": "qpsk-1/2",
        "diagnosis": ["2 frames lost (payload): noise"],
    } | dict.fromkeys((field.name for field in fields(Exchange)), None)
    lines = report_lines(report)
    assert lines[0].split() == ["Pixels", "exact", "NO"]
    assert lines[1].split() == ["Failed", "stage", "ldpc"]
    assert not any("PSNR" in line for line in lines)
    assert any("1,234,567" in line for line in lines)
    assert lines[-1].split(maxsplit=1) == ["Diagnosis", "2 frames lost (payload): noise"]
