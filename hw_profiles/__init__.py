"""Hardware profiles: what a radio front end can do, declared in one TOML file each.

Examples:
    >>> from hw_profiles import load_profile, profile_names
    >>> "simulated" in profile_names()
    True
    >>> load_profile("simulated").sample_rate.default_hz
    1000000.0
"""

from hw_profiles.profile import (
    Clock,
    Direction,
    Duplex,
    GainSign,
    GainStage,
    HardwareProfile,
    ProfileError,
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
    "Duplex",
    "GainSign",
    "GainStage",
    "HardwareProfile",
    "ProfileError",
    "Receive",
    "SampleFormat",
    "SampleRate",
    "Transmit",
    "load_profile",
    "profile_names",
]
