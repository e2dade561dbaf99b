"""Limits of the bundled profiles: nothing outside them passes, and the nearest value does.

Nor does it reach a radio, whatever it is asked for.
"""

import re
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import fake_soapy
import numpy as np
import pytest
from fake_soapy import Script
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs.radio.radio import RadioSettings
from flowgraphs.radio.soapy import SoapyRadio
from flowgraphs.stream import EndpointError
from hw_profiles import DirectionSettings, LimitError, check_settings, load_profile, profile_names
from hw_profiles.profile import GainStage, HardwareProfile, Range, SampleRate

PROFILES = {name: load_profile(name) for name in profile_names()}


def passes(profile: HardwareProfile, **directions: DirectionSettings) -> bool:
    try:
        check_settings(profile, **directions)
    except LimitError:
        return False
    return True


numbers = st.one_of(
    st.floats(0, 7e9),
    st.sampled_from([2e6, 3e6, 2.4e6, 768e3, 868e6, 2.4e9, 100e6, 5e9, 20e6, 40e6, 1.75e6]),
    st.floats(),
)
gains = st.dictionaries(
    st.sampled_from(["PGA", "PGA0", "LNA", "VGA", "AMP", "TUNER", "overall", "MIX", "ATT"]),
    st.one_of(st.integers(-100, 100).map(float), st.floats()),
    max_size=3,
)
requests = st.builds(
    DirectionSettings,
    sample_rate_hz=numbers,
    frequency_hz=numbers,
    bandwidth_hz=st.none() | numbers,
    gains=gains,
    channels=st.integers(-1, 3),
)


def is_within(profile: HardwareProfile, name: str, request: DirectionSettings) -> bool:
    """The limits written out once more, straight from the tables of the file."""
    direction = getattr(profile, name)
    rates = profile.sample_rate
    rate = request.sample_rate_hz
    good = direction is not None
    good &= rate in rates.choices_hz or any(r.min_hz <= rate <= r.max_hz for r in rates.ranges)
    good &= rates.host_max_hz is None or rate <= rates.host_max_hz
    if good and rates.divided_clocks_hz:
        ratios = [clock / rate for clock in rates.divided_clocks_hz]
        good &= any(abs(ratio - round(ratio)) < 1e-6 * ratio for ratio in ratios)
    if good:
        good &= any(r.min_hz <= request.frequency_hz <= r.max_hz for r in direction.frequency)
        good &= 1 <= request.channels <= direction.channels
        bandwidth = request.bandwidth_hz
        good &= (
            bandwidth is None
            or bandwidth in direction.bandwidth_choices_hz
            or any(r.min_hz <= bandwidth <= r.max_hz for r in direction.bandwidth)
        )
        stages = {stage.name: stage for stage in direction.gain}
        for stage_name, setting in request.gains.items():
            stage = stages.get(stage_name)
            if stage is None:
                return False
            if stage.choices_db:
                good &= any(abs(setting - choice) < 1e-5 for choice in stage.choices_db)
            elif stage.settings is not None:
                good &= setting in range(stage.settings)
            else:
                good &= stage.min_db - 1e-5 <= setting <= stage.max_db + 1e-5
    return bool(good)


@given(st.sampled_from(sorted(PROFILES)), st.sampled_from(["rx", "tx"]), requests)
@settings(max_examples=300, deadline=None)
def test_what_passes_lies_within_the_limits(
    name: str, direction: str, request: DirectionSettings
) -> None:
    profile = PROFILES[name]
    if passes(profile, **{direction: request}):
        assert is_within(profile, direction, request)


def plausible(profile: HardwareProfile, which: str) -> st.SearchStrategy[RadioSettings]:
    """Settings of which each is often, but not always, one that the front end has."""
    direction = getattr(profile, which) or profile.rx or profile.tx
    rates = [profile.sample_rate.default_hz, *profile.sample_rate.choices_hz]
    edges = [edge for extent in direction.frequency for edge in (extent.min_hz, extent.max_hz)]
    beyond = [edge * factor for edge in edges for factor in (0.999, 1.001)]
    stages = {
        stage.name: st.sampled_from([stage.nearest(0), stage.nearest(20), stage.nearest(1e9), 1e9])
        for stage in direction.gain
    }
    return st.builds(
        RadioSettings,
        sample_rate_hz=st.sampled_from(rates) | numbers,
        frequency_hz=st.sampled_from([*edges, *beyond]),
        bandwidth_hz=st.none() | numbers,
        gains=st.fixed_dictionaries({}, optional=stages) | gains,
        channels=st.sampled_from([1, 1, 1, 2]),
        channel=st.sampled_from([0, 0, 0, 1, -1]),
    )


@given(st.data(), st.sampled_from(sorted(PROFILES)))
@settings(max_examples=100, deadline=None)
def test_nothing_outside_the_limits_reaches_a_radio(data: Any, name: str) -> None:
    """A radio is asked for anything, again and again; its device hears of nothing that is wrong."""
    profile = PROFILES[name]
    both = {"rx": profile.rx, "tx": profile.tx}
    driver_gains = {stage.name for d in both.values() if d is not None for stage in d.gain}
    script = Script(formats=("CU8", "CS8", "CS16", "CF32"), channels=9, gains=tuple(driver_gains))
    with patch.dict(sys.modules, {"SoapySDR": fake_soapy.fake_module(script)}):
        radio = SoapyRadio("soapy:driver=fake", profile)
    radio.open()
    for _ in range(data.draw(st.integers(1, 4))):
        script.calls.clear()
        asked = {which: data.draw(st.none() | plausible(profile, which)) for which in both}
        try:
            radio.configure(**asked)
        except LimitError:
            assert script.calls == []
            asked = None
        except EndpointError:
            pytest.fail("the device knew better than the limits")
        samples = data.draw(st.sampled_from([0.1, 1.0, 1e9, np.nan])) * np.ones(3, np.complex64)
        for call in (lambda: radio.read(0), lambda: radio.write(samples, 0)):  # noqa: B023
            with suppress(LimitError):
                call()
        if asked is None:
            continue
        used = {which for which, request in asked.items() if request is not None}
        started = {call[0] for call in script.called("activateStream")}
        assert started <= {{"tx": 0, "rx": 1}[which] for which in used}
        assert not (profile.duplex == "half" and len(used) == 2)
        for code, which in enumerate(("tx", "rx")):
            direction = both[which]
            calls = [call for call in script.calls if call[1:2] == (code,)]
            if which not in used:
                assert {call[0] for call in calls} <= {"deactivateStream", "closeStream"}
                continue
            assert direction is not None
            heard = {call[0]: call[2:] for call in calls if len(call) > 2}
            request = DirectionSettings(
                heard["setSampleRate"][1],
                heard["setFrequency"][1],
                heard["setBandwidth"][1] if "setBandwidth" in heard else None,
                {
                    (args[2] if len(args) == 4 else "overall"): args[-1]
                    for args in script.called("setGain")
                    if args[0] == code
                },
                channels=heard["setSampleRate"][0] + 1,
            )
            assert is_within(profile, which, request)
            if which == "tx":  # every gain of a transmitter was given
                assert set(request.gains) == {stage.name for stage in direction.gain}
                largest = {"cf32": 1e30, "cs16": direction.full_scale, "cs8": 128, "cu8": 255}
                for codes in script.written:
                    assert not (
                        np.abs(codes.astype(float)) > largest[direction.sample_format]
                    ).any()
        script.written.clear()
    radio.close()


@given(st.data(), st.sampled_from(sorted(PROFILES)), st.sampled_from(["rx", "tx"]))
@settings(max_examples=150, deadline=None)
def test_what_lies_within_the_limits_passes(data: Any, name: str, which: str) -> None:
    profile = PROFILES[name]
    direction = getattr(profile, which)
    if direction is None:
        return

    def inside(ranges: tuple[Range, ...]) -> float:
        chosen = data.draw(st.sampled_from(ranges))
        return data.draw(st.floats(chosen.min_hz, chosen.max_hz))

    rates = profile.sample_rate
    if rates.choices_hz or rates.divided_clocks_hz:
        rate = data.draw(st.sampled_from([*rates.choices_hz, rates.default_hz]))
    else:
        rate = min(inside(rates.ranges), rates.host_max_hz or 1e12)
    bandwidth = None
    if direction.bandwidth:
        bandwidth = inside(direction.bandwidth)
    elif direction.bandwidth_choices_hz:
        bandwidth = data.draw(st.sampled_from(direction.bandwidth_choices_hz))
    chosen = {}
    for stage in direction.gain:
        if stage.choices_db:
            chosen[stage.name] = data.draw(st.sampled_from(stage.choices_db))
        elif stage.settings is not None:
            chosen[stage.name] = data.draw(st.integers(0, stage.settings - 1))
        else:
            steps = data.draw(st.integers(0, int((stage.max_db - stage.min_db) / stage.step_db)))
            chosen[stage.name] = stage.min_db + steps * stage.step_db
    request = DirectionSettings(rate, inside(direction.frequency), bandwidth, chosen)
    check_settings(profile, **{which: request})


@given(st.sampled_from(sorted(PROFILES)), st.floats(1, 1e10))
@settings(max_examples=200, deadline=None)
def test_the_nearest_rate_is_supported(name: str, rate: float) -> None:
    rates = PROFILES[name].sample_rate
    nearest = rates.nearest(rate)
    assert rates.supports(nearest)
    assert abs(nearest - rate) <= abs(rates.default_hz - rate)


GOOD = DirectionSettings(2e6, 868e6)


@pytest.mark.parametrize(
    ("name", "which", "change", "words"),
    [
        ("hackrf-one", "rx", {"sample_rate_hz": 25e6}, "rate of 25 MHz .* the nearest is 20 MHz"),
        ("usrp-n210", "rx", {"sample_rate_hz": 3e6}, "the nearest is 3.03030303 MHz"),
        ("usrp-x310", "tx", {"sample_rate_hz": 61e6}, "the nearest is 61.44 MHz"),
        ("rtl-sdr-v4", "rx", {"sample_rate_hz": 500e3}, "the nearest is 300 kHz"),
        ("rtl-sdr-v4", "rx", {"sample_rate_hz": 3e6}, "the nearest is 2.4 MHz"),
        ("airspy-mini", "rx", {"sample_rate_hz": 2e6}, "the nearest is 3 MHz"),
        ("pluto", "tx", {"frequency_hz": 5.8e9}, "5.8 GHz is outside .* nearest is 3.8 GHz"),
        ("hackrf-one", "rx", {"bandwidth_hz": 2e6}, "2 MHz is not offered; .* 1.75 MHz"),
        ("limesdr-usb", "rx", {"bandwidth_hz": 2e6}, "bandwidths are not known"),
        ("hackrf-one", "rx", {"gains": {"LNA": 20.0}}, "LNA cannot be 20 dB; .* is (16|24) dB"),
        ("hackrf-one", "rx", {"gains": {"AMP": 14.0}}, "AMP cannot be 14 dB; .* is 11 dB"),
        ("usrp-b200", "tx", {"gains": {"PGA": 90.0}}, "PGA cannot be 90 dB; .* is 89.75 dB"),
        ("pluto", "rx", {"gains": {"LNA": 9.0}}, "no gain 'LNA'; there are PGA"),
        ("pluto", "rx", {"channels": 2}, "it has 1 channels, not 2"),
        ("pluto", "rx", {"frequency_hz": float("nan")}, "nan is not a finite number"),
        ("rtl-sdr-v3", "tx", {}, "rtl-sdr-v3 is receive-only: it has no tx"),
    ],
)
def test_messages_name_the_limit_and_the_nearest_value(
    name: str, which: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(LimitError) as caught:
        check_settings(PROFILES[name], **{which: replace(GOOD, **change)})
    assert name in str(caught.value)
    assert re.search(words, str(caught.value))


def test_half_duplex() -> None:
    check_settings(PROFILES["hackrf-one"], rx=GOOD)
    check_settings(PROFILES["hackrf-one"], tx=GOOD)
    check_settings(PROFILES["pluto"], rx=GOOD, tx=GOOD)
    with pytest.raises(LimitError, match="half duplex"):
        check_settings(PROFILES["hackrf-one"], rx=GOOD, tx=GOOD)


def test_tuning_ranges_with_a_gap() -> None:
    narrow = DirectionSettings(768e3, 7.1e6)
    check_settings(PROFILES["airspy-hf-plus"], rx=narrow)
    with pytest.raises(LimitError, match=r"40 MHz .* the nearest is 31 MHz"):
        check_settings(PROFILES["airspy-hf-plus"], rx=replace(narrow, frequency_hz=40e6))


def test_nearest_settings_of_gain_stages() -> None:
    stage = GainStage("x", min_db=-1.0, max_db=3.0, step_db=1.5)
    assert [stage.nearest(v) for v in (-9, -0.5, 0.3, 1.9, 9)] == [-1.0, -1.0, 0.5, 2.0, 2.0]
    assert GainStage("x", min_db=0, max_db=1, step_db=0).nearest(0.123) == 0.123
    assert GainStage("x", choices_db=(0.0, 11.0)).nearest(6) == 11.0
    assert [GainStage("x", settings=16).nearest(v) for v in (-1, 7.2, 99)] == [0, 7, 15]


def test_rates_of_divided_clocks() -> None:
    rates = SampleRate(10.0, (Range(3.0, 26.0),), divided_clocks_hz=(100.0,))
    assert rates.nearest(100.0) == 25.0
    assert rates.nearest(1.0) == pytest.approx(100 / 33)
    assert rates.nearest(18.0) == pytest.approx(100 / 6)
    assert rates.supports(100 / 7)
    assert not rates.supports(14.0)
