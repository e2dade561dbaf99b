"""Native samples: literal codes, exact round trips, counted clipping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles import SampleFormat, load_profile
from hw_profiles.sample_format import NativeFormat

CU8 = NativeFormat(SampleFormat.CU8, 128)
CS8 = NativeFormat(SampleFormat.CS8, 128)
Q11 = NativeFormat(SampleFormat.CS16, 2048)
UHD = NativeFormat(SampleFormat.CS16, 32767)
TOP = NativeFormat(SampleFormat.CS16, 32768)
CF32 = NativeFormat(SampleFormat.CF32, 1)
INTEGERS = [CU8, CS8, Q11, UHD, TOP, NativeFormat(SampleFormat.CS16, 100.5)]


@pytest.mark.parametrize(
    ("native", "samples", "codes"),
    [
        # 127.4 is rounded to 127; 0.5 is 64 above it, 191.4; -0.5 is 63.4.
        (CU8, [0, 0.5 - 0.5j, 0.996875j], [127, 127, 191, 63, 127, 255]),
        (CS8, [0, 0.5 - 0.5j, -1 + 0.9921875j], [0, 0, 64, -64, -128, 127]),
        (Q11, [0.25 - 1j, 1 / 2048, 0.9 / 4096], [512, -2048, 1, 0, 0, 0]),
        (UHD, [1 - 1j, 0.5, -0.25j], [32767, -32767, 16384, 0, 0, -8192]),
        (TOP, [-1, 0.5 + 0.25j], [-32768, 0, 16384, 8192]),
        (CF32, [1.5 - 0.125j], [1.5, -0.125]),
    ],
)
def test_literal_codes(native: NativeFormat, samples: list[complex], codes: list[float]) -> None:
    data, clipped = native.encode(samples)
    assert data.tolist() == codes
    assert clipped == 0
    assert data.dtype == native.dtype


def test_bytes_on_the_wire() -> None:
    """Little-endian, I before Q."""
    assert CU8.encode([-1 + 0.5j]).data.tobytes() == b"\x00\xbf"
    assert CS8.encode([0.5 - 0.5j]).data.tobytes() == b"\x40\xc0"
    assert Q11.encode([0.25 - 0.5j]).data.tobytes() == b"\x00\x02\x00\xfc"
    assert CF32.encode([1 - 2j]).data.tobytes() == b"\x00\x00\x80\x3f\x00\x00\x00\xc0"


def test_literal_values() -> None:
    """The receiver's convention (x - 127.4) / 128."""
    decoded = CU8.decode(np.array([0, 255, 127, 128], dtype=np.uint8))
    assert decoded == pytest.approx([-0.9953125 + 0.996875j, -0.003125 + 0.0046875j], abs=1e-7)
    assert CS8.decode(np.array([-128, 127], dtype=np.int8)).tolist() == [-1 + 0.9921875j]
    assert Q11.decode(np.array([1024, -1], dtype="<i2")).tolist() == [0.5 - 1j / 2048]
    assert TOP.decode(np.array([16384, 0], dtype="<i2")).tolist() == [0.5]


@pytest.mark.parametrize("native", INTEGERS)
def test_every_code_comes_back(native: NativeFormat) -> None:
    lowest, highest = (int(code) for code in native.codes)
    codes = np.arange(lowest, highest + 1)
    pairs = np.stack([codes, codes[::-1]], axis=1).astype(native.dtype).ravel()
    data, clipped = native.encode(native.decode(pairs))
    np.testing.assert_array_equal(data, pairs)
    assert clipped == 0


@given(
    st.sampled_from(INTEGERS),
    st.lists(st.complex_numbers(max_magnitude=0.98, allow_nan=False), max_size=30),
)
def test_rounding_is_to_the_nearest_code(native: NativeFormat, samples: list[complex]) -> None:
    sent = np.array(samples, dtype=np.complex64)
    data, clipped = native.encode(sent)
    error = (native.decode(data) - sent).view(np.float32) * native.full_scale
    assert clipped == 0
    assert np.all(np.abs(error) <= 0.5 + 1e-3)


def test_cf32_is_exact() -> None:
    rng = np.random.default_rng(1)
    sent = (rng.standard_normal(100) + 1j * rng.standard_normal(100)).astype(np.complex64) * 1e5
    assert np.array_equal(CF32.decode(CF32.encode(sent).data), sent)


@pytest.mark.parametrize("native", INTEGERS)
def test_clipped_samples_are_counted_once(native: NativeFormat) -> None:
    lowest, highest = native.codes
    bad = [3.0, -3j, 2 + 2j, complex(np.nan, 0), complex(0, np.inf), 0.5, -0.5j]
    data, clipped = native.encode(bad)
    assert clipped == 5
    assert data[0] == highest
    assert data[3] == lowest
    assert data[4:6].tolist() == [highest, highest]
    assert data[9] == highest
    zero = 127 if native is CU8 else 0
    assert data[6] == zero, "not a number is silence"


@pytest.mark.parametrize(
    ("name", "full_scales", "types"),
    [
        ("pluto", (2048, 32768), ("cs16", "cs16")),
        ("hackrf-one", (128, 128), ("cs8", "cs8")),
        ("bladerf-2-micro", (2048, 2048), ("cs16", "cs16")),
        ("rtl-sdr-v4", (128, None), ("cu8", None)),
        ("airspy-hf-plus", (1, None), ("cf32", None)),
        ("usrp-b200", (32767, 32767), ("cs16", "cs16")),
    ],
)
def test_formats_of_front_ends(
    name: str, full_scales: tuple[float | None, ...], types: tuple[str | None, ...]
) -> None:
    profile = load_profile(name)
    for direction, full_scale, kind in zip(
        (profile.rx, profile.tx), full_scales, types, strict=True
    ):
        assert (direction is None) == (full_scale is None)
        if direction is not None:
            native = NativeFormat.of(direction)
            assert (native.full_scale, native.sample_format) == (full_scale, kind)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        CS8.decode(np.zeros(3, dtype=np.int8))
    with pytest.raises(ValueError, match="uint8, not int8"):
        CU8.decode(np.zeros(2, dtype=np.int8))
    with pytest.raises(ValueError, match="full_scale of cu8"):
        NativeFormat(SampleFormat.CU8, 100)
    for kind, full_scale in ((SampleFormat.CS8, 129), (SampleFormat.CS16, 0)):
        with pytest.raises(ValueError, match="full_scale"):
            NativeFormat(kind, full_scale)
