"""Hardware profiles: what a radio front end can do, declared in one TOML file each.

Examples:
    >>> from hw_profiles import load_profile, profile_names
    >>> "simulated" in profile_names()
    True
    >>> load_profile("simulated").sample_rate.default_hz
    1000000.0
"""

from hw_profiles.limits import DirectionSettings, check_settings
from hw_profiles.profile import (
    Clock,
    Direction,
    Duplex,
    Faults,
    GainSign,
    GainStage,
    HardwareProfile,
    LimitError,
    PhaseNoisePoint,
    ProfileError,
    Range,
    Receive,
    SampleFormat,
    SampleRate,
    Transmit,
    load_profile,
    profile_names,
)

__all__ = [
    "Clock",
    "Direction",
    "DirectionSettings",
    "Duplex",
    "Faults",
    "GainSign",
    "GainStage",
    "HardwareProfile",
    "LimitError",
    "PhaseNoisePoint",
    "ProfileError",
    "Range",
    "Receive",
    "SampleFormat",
    "SampleRate",
    "Transmit",
    "check_settings",
    "load_profile",
    "profile_names",
]
