"""Hardware profiles: the bundled ones load, and every mistake is named with file and key."""

from importlib import resources
from pathlib import Path

import pytest

from hw_profiles import (
    Duplex,
    Faults,
    GainSign,
    PhaseNoisePoint,
    ProfileError,
    SampleFormat,
    load_profile,
    profile_names,
)

TEXT = """
name = "radio"
description = "a made-up front end"
duplex = "half"

[sample_rate]
default_hz = 2e6
choices_hz = [1e6, 2e6, 4e6]
host_max_hz = 3e6

[clock]
tolerance_ppm = 20

[rx]
channels = 1
frequency = [{ min_hz = 1e6, max_hz = 6e9 }]
bandwidth = [{ min_hz = 1e6, max_hz = 2e6 }]
bits = 8
sample_format = "cs8"
full_scale = 128
corrects_dc = false
max_input_dbm = -5

[rx.faults]
dc_dbc = -30
phase_noise = [{ offset_hz = 1e3, level_dbc_hz = -80 }, { offset_hz = 1e5, level_dbc_hz = -110 }]

[[rx.gain]]
name = "LNA"
min_db = 0
max_db = 40
step_db = 8

[[rx.gain]]
name = "PAD"
min_db = 0
max_db = 30
step_db = 0.25
sign = "attenuation"
default = 29.75

[[rx.gain]]
name = "AMP"
choices_db = [0, 11]

[[rx.gain]]
name = "MIX"
settings = 16

[tx]
channels = 1
frequency = [{ min_hz = 1e6, max_hz = 6e9 }]
bandwidth = [{ min_hz = 1e6, max_hz = 2e6 }]
bits = 8
sample_format = "cs8"
full_scale = 127
corrects_dc = false
corrects_iq = false

[sources]
sample_rate = "data sheet"
clock = "data sheet"
rx = "data sheet"
"rx.gain" = "measured"
tx = "data sheet"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "radio.toml"
    path.write_text(text)
    return path


def test_bundled_profiles_load() -> None:
    for name in profile_names():
        assert load_profile(name).name == name


def test_simulated_front_end() -> None:
    profile = load_profile("simulated")
    assert profile.duplex is Duplex.FULL
    assert profile.sample_rate.default_hz == 1e6
    assert profile.clock.tolerance_ppm == 0
    for direction in (profile.rx, profile.tx):
        assert direction is not None
        assert direction.sample_format is SampleFormat.CF32
        assert direction.full_scale == 1.0
    assert profile.sample_rate.supports(123_456.0)
    assert not profile.sample_rate.supports(0.0)


def test_a_file(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, TEXT))
    assert profile.rx is not None
    assert profile.tx is not None
    assert profile.rx.max_input_dbm == -5.0
    assert profile.tx.max_output_dbm is None
    assert [stage.name for stage in profile.rx.gain] == ["LNA", "PAD", "AMP", "MIX"]
    assert [stage.sign for stage in profile.rx.gain[:2]] == [GainSign.GAIN, GainSign.ATTENUATION]
    assert profile.sample_rate.supports(1e6)
    assert not profile.sample_rate.supports(1.5e6)
    assert not profile.sample_rate.supports(4e6), "more than the host sustains"
    assert profile.rx.corrects_iq is None
    assert profile.rx.faults == Faults(
        dc_dbc=-30.0, phase_noise=(PhaseNoisePoint(1e3, -80.0), PhaseNoisePoint(1e5, -110.0))
    )


def test_profiles_are_packaged() -> None:
    assert (resources.files("hw_profiles") / "simulated.toml").is_file()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[clock]", "[clock", ["line"]),
        ("channels = 1", "", ["rx.channels", "missing"]),
        ("tolerance_ppm = 20", "tolerance = 20", ["clock.tolerance", "tolerance_ppm", "unit"]),
        ("min_db = 0", "min = 0", ["rx.gain[0].min", "min_db", "unit"]),
        ("tolerance_ppm = 20", "tolerance_ppm = -1", ["clock.tolerance_ppm"]),
        ("tolerance_ppm = 20", "tolerance_ppm = nan", ["clock.tolerance_ppm", "number"]),
        ("tolerance_ppm = 20", "tolerance_ppm = true", ["clock.tolerance_ppm", "number"]),
        ("tolerance_ppm = 20", 'tolerance_ppm = "20"', ["clock.tolerance_ppm", "number"]),
        ("tolerance_ppm = 20", "tolerance_ppm = 20\ncolour = 1", ["clock.colour", "unknown"]),
        ("[clock]\ntolerance_ppm = 20", "clock = 20", ["clock"]),
        ('duplex = "half"', 'duplex = "both"', ["duplex", "half"]),
        ('duplex = "half"', 'duplex = "receive-only"', ["duplex", "tx"]),
        ('name = "radio"', 'name = "other"', ["name", "other"]),
        ("default_hz = 2e6", "default_hz = 3e6", ["sample_rate.default_hz"]),
        ("default_hz = 2e6", "default_hz = 8e6", ["sample_rate.default_hz"]),
        ("choices_hz = [1e6", "choices_hz = [-5e5", ["sample_rate.choices_hz"]),
        ("choices_hz = [1e6, 2e6, 4e6]", "", ["sample_rate.ranges", "choices_hz"]),
        ("choices_hz = [1e6, 2e6, 4e6]", "ranges = [{min_hz = 0, max_hz = 9e6}]", ["ranges"]),
        ("host_max_hz = 3e6", "host_max_hz = 3", ["sample_rate.host_max_hz"]),
        ("choices_hz = [1e6", 'choices_hz = ["1e6"', ["sample_rate.choices_hz[0]"]),
        ("frequency = [{ min_hz = 1e6", "frequency = [{ min_hz = 7e9", ["rx.frequency[0].min_hz"]),
        ("frequency = [{ min_hz = 1e6, max_hz = 6e9 }]", "frequency = []", ["rx.frequency"]),
        ("bandwidth = [{ min_hz = 1e6", "bandwidth = [{ min_hz = 3e6", ["rx.bandwidth[0].min_hz"]),
        ("bandwidth =", "bandwidth_choices_hz = [1e6]\nbandwidth =", ["rx.bandwidth"]),
        ("channels = 1", "channels = 0", ["rx.channels"]),
        ("channels = 1", "channels = 1.0", ["rx.channels", "integer"]),
        ("bits = 8", "bits = 12", ["rx.bits", "cs8"]),
        ("full_scale = 128", "full_scale = 2048", ["rx.full_scale", "cs8"]),
        ("full_scale = 128", "full_scale = 0", ["rx.full_scale"]),
        ("max_db = 40", "max_db = -40", ["rx.gain[0].min_db"]),
        ("step_db = 8", "step_db = -8", ["rx.gain[0].step_db"]),
        ("step_db = 8", "", ["rx.gain[0].min_db", "step_db", "together"]),
        ("settings = 16", "settings = 16\nchoices_db = [0]", ["rx.gain[3]", "one of them"]),
        ("settings = 16", "settings = 0", ["rx.gain[3].settings"]),
        ("choices_db = [0, 11]", "choices_db = [11, 0]", ["rx.gain[2].choices_db", "ascend"]),
        ("default = 29.75", "default = 29.8", ["rx.gain[1].default", "29.8"]),
        ("offset_hz = 1e5", "offset_hz = 1e3", ["rx.faults.phase_noise", "ascending"]),
        ("offset_hz = 1e5", "offset = 1e5", ["rx.faults.phase_noise[1].offset", "offset_hz"]),
        ('name = "PAD"', 'name = "LNA"', ["rx.gain"]),
        ('sign = "attenuation"', 'sign = "loss"', ["rx.gain[1].sign"]),
        ('clock = "data sheet"', "", ["clock.tolerance_ppm", "source"]),
        ('tx = "data sheet"', "", ["tx.channels", "source"]),
        ('clock = "data sheet"', 'clock = "data sheet"\n"rx.colour" = "?"', ["rx.colour"]),
        ('clock = "data sheet"', "clock = 1", ["sources.clock", "text"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    for word in ["radio.toml", *words]:
        assert word in str(caught.value)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="simulated"):
        load_profile("no-such-radio")
    with pytest.raises(ProfileError, match=r"missing\.toml"):
        load_profile(tmp_path / "missing.toml")
