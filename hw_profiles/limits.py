"""What a front end is asked for, checked against its profile before anything reaches the device.

Examples:
    >>> from hw_profiles import DirectionSettings, check_settings, load_profile
    >>> hackrf = load_profile("hackrf-one")
    >>> check_settings(hackrf, rx=DirectionSettings(2e6, 868e6, gains={"LNA": 16, "VGA": 20}))
    >>> check_settings(hackrf, rx=DirectionSettings(1e6, 868e6))
    Traceback (most recent call last):
    hw_profiles.profile.LimitError: hackrf-one, rx: a sample rate of 1 MHz is not offered; \
the nearest is 2 MHz
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hw_profiles.profile import Direction, HardwareProfile, LimitError, Range


@dataclass(frozen=True)
class DirectionSettings:
    """What one direction is asked for.

    Attributes:
        sample_rate_hz: samples per second.
        frequency_hz: centre frequency.
        bandwidth_hz: of the analog filter; None leaves it to the driver.
        gains: settings of gain stages by name, in dB or, where the stage has none, as numbers.
        channels: coherent channels.
    """

    sample_rate_hz: float
    frequency_hz: float
    bandwidth_hz: float | None = None
    gains: Mapping[str, float] = field(default_factory=dict)
    channels: int = 1


def check_settings(
    profile: HardwareProfile,
    rx: DirectionSettings | None = None,
    tx: DirectionSettings | None = None,
) -> None:
    """Refuses what a front end cannot do, or what its profile does not say that it can.

    Args:
        profile: the front end's.
        rx: what its receiver is asked for; None if it is not used.
        tx: the same of its transmitter; both are used at the same time if both are given.

    Raises:
        LimitError: names the limit, and the nearest value that is allowed.
    """
    if rx is not None and tx is not None and profile.duplex == "half":
        raise LimitError(
            f"{profile.name} is half duplex: it receives or transmits, not both at once"
        )
    for name, settings, direction in (("rx", rx, profile.rx), ("tx", tx, profile.tx)):
        if settings is None:
            continue
        if direction is None:
            raise LimitError(f"{profile.name} is {profile.duplex}: it has no {name}")
        try:
            _check_direction(profile, direction, settings)
        except ValueError as error:
            raise LimitError(f"{profile.name}, {name}: {error}") from error


def nearest_in(ranges: Sequence[Range], value_hz: float) -> float:
    """The value in one of several ranges that is nearest to a given one."""
    inside = [min(max(value_hz, extent.min_hz), extent.max_hz) for extent in ranges]
    return min(inside, key=lambda candidate: abs(candidate - value_hz))


def in_hertz(value_hz: float) -> str:
    """A frequency for people, exact to nine digits: "2.4 GHz"."""
    for unit, size in (("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3)):
        if abs(value_hz) >= size:
            return f"{value_hz / size:.9g} {unit}"
    return f"{value_hz:.9g} Hz"


def _check_direction(
    profile: HardwareProfile, direction: Direction, settings: DirectionSettings
) -> None:
    rate, frequency, bandwidth = (
        settings.sample_rate_hz,
        settings.frequency_hz,
        settings.bandwidth_hz,
    )
    for value in (rate, frequency, bandwidth or 0.0, *settings.gains.values()):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
    if not profile.sample_rate.supports(rate):
        nearest = profile.sample_rate.nearest(rate)
        raise ValueError(
            f"a sample rate of {in_hertz(rate)} is not offered; the nearest is {in_hertz(nearest)}"
        )
    if (nearest := nearest_in(direction.frequency, frequency)) != frequency:
        raise ValueError(
            f"a frequency of {in_hertz(frequency)} is outside the tuning range; "
            f"the nearest is {in_hertz(nearest)}"
        )
    if bandwidth is not None:
        choices = [Range(choice, choice) for choice in direction.bandwidth_choices_hz]
        extents = [*direction.bandwidth, *choices]
        if not extents:
            raise ValueError("its bandwidths are not known, so none can be set; leave it out")
        if (nearest := nearest_in(extents, bandwidth)) != bandwidth:
            raise ValueError(
                f"a bandwidth of {in_hertz(bandwidth)} is not offered; "
                f"the nearest is {in_hertz(nearest)}"
            )
    if not 1 <= settings.channels <= direction.channels:
        raise ValueError(f"it has {direction.channels} channels, not {settings.channels}")
    stages = {stage.name: stage for stage in direction.gain}
    for name, setting in settings.gains.items():
        if name not in stages:
            raise ValueError(f"there is no gain {name!r}; there are {', '.join(stages) or 'none'}")
        unit = "" if stages[name].settings is not None else " dB"
        if abs((nearest := stages[name].nearest(setting)) - setting) > 1e-6:
            raise ValueError(
                f"gain {name} cannot be {setting:g}{unit}; the nearest is {nearest:g}{unit}"
            )
