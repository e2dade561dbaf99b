"""Options of commands that use a radio, and what a radio is asked for by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sscc.errors import InputError
from sscc.quantities import gain_settings

if TYPE_CHECKING:
    from flowgraphs.radio.radio import RadioRequest
    from hw_profiles.profile import HardwareProfile

PANEL = "Radio"

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|FILE",
        rich_help_panel=PANEL,
        help="Hardware profile whose limits apply; a soapy: end needs one.",
    ),
]
Frequency = Annotated[
    float | None,
    typer.Option(metavar="HZ", rich_help_panel=PANEL, help="Centre frequency of the radio."),
]
Gain = Annotated[
    Any,
    typer.Option(
        metavar="NAME=DB,...",
        parser=gain_settings,
        rich_help_panel=PANEL,
        help="Gains by the names in the profile, or one number where it has one.  [default: the "
        "profile's to receive; none to transmit]",
    ),
]
Bandwidth = Annotated[
    float | None,
    typer.Option(
        metavar="HZ",
        rich_help_panel=PANEL,
        help="Of the analog filter.  [default: the driver's]",
    ),
]
Antenna = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=PANEL, help="Antenna port.  [default: the driver's]"
    ),
]
RadioChannel = Annotated[
    int,
    typer.Option(
        "--radio-channel",
        metavar="N",
        min=0,
        rich_help_panel=PANEL,
        help="Channel of a radio that has several.",
    ),
]
Backoff = Annotated[
    float,
    typer.Option(
        metavar="DB",
        min=0,
        rich_help_panel=PANEL,
        help="Full scale of the transmitter, of I or Q, over their root mean square.",
    ),
]

_PURE_SOFTWARE = "simulated"  # the profile of a loopback radio unless told otherwise
_OTHER_CLOCK_PPM = 25.0  # of the sender's clock: the widest tolerance of all profiles
_CARRIER_HZ = 2.4e9  # stands for a frequency that nobody gave, if the profile has it


def radio_request(
    uri: str,
    end: Literal["rx", "tx"],
    waveform: str,
    symbol_rate: float,
    profile: str | None,
    frequency: float | None,
    gain: dict[str, float] | None,
    bandwidth: float | None,
    antenna: str | None,
    channel: int,
    backoff: float = 15.0,
) -> RadioRequest | None:
    """What the radio behind an end is asked for; None if there is none, or none is known.

    A profile's limits apply to an end that is no radio too: there may be one behind it.

    Raises:
        InputError: options are missing, or there is nothing that they could apply to.
        LimitError: more than the profile allows.
    """
    from flowgraphs.endpoints import is_radio
    from flowgraphs.path import samples_per_symbol
    from flowgraphs.radio.radio import RadioRequest, RadioSettings
    from hw_profiles.limits import check_settings, nearest_in
    from hw_profiles.profile import load_profile

    radio = is_radio(uri)
    if profile is None and radio:
        if not uri.startswith("loopback:"):
            raise InputError(f"{uri}: a radio needs --profile, for its limits and its full scale")
        profile = _PURE_SOFTWARE
    if radio and waveform == "symbols":
        raise InputError(f"{uri}: the waveform symbols is not for radios")
    if profile is None:
        if any(option is not None for option in (frequency, gain, bandwidth, antenna)):
            raise InputError("--frequency, --gain, --bandwidth and --antenna need --profile")
        return None
    hardware = load_profile(profile)
    if radio and frequency is None:
        raise InputError(f"{uri}: a radio needs --frequency")
    gains = _named(hardware, end, gain)
    if radio and end == "tx" and hardware.tx is not None and hardware.tx.gain and not gains:
        names = ", ".join(stage.name for stage in hardware.tx.gain)
        raise InputError(f"{uri}: to transmit needs --gain, for {names}")
    if frequency is None:
        direction = getattr(hardware, end) or hardware.rx or hardware.tx
        assert direction is not None  # a profile has one of them
        frequency = nearest_in(direction.frequency, _CARRIER_HZ)
    sample_rate = symbol_rate * samples_per_symbol(waveform)
    settings = RadioSettings(
        sample_rate, frequency, bandwidth, gains, channel=channel, antenna=antenna
    )
    request = RadioRequest(profile, settings, backoff)
    check_settings(hardware, **{end: settings})
    return request


def _named(hardware: HardwareProfile, end: str, gain: dict[str, float] | None) -> dict[str, float]:
    """Gains by name; a lone number is that of the only stage."""
    gains = dict(gain or {})
    if "" in gains:
        direction = getattr(hardware, end)
        if direction is None:
            return {}  # what is wrong is not the gain
        names = [stage.name for stage in direction.gain]
        if len(names) != 1 or len(gains) != 1:
            raise InputError(
                f"{hardware.name} has the gains {', '.join(names) or 'none'}: give NAME=SETTING "
                "for each"
            )
        gains = {names[0]: gains[""]}
    return gains


def carrier_offset_hz(request: RadioRequest | None) -> float:
    """How far two radios' carriers may be apart: one of the profile, one of whom nothing is known.

    The profile's clock and :data:`_OTHER_CLOCK_PPM`; 0 where the profile knows no tolerance.
    """
    from hw_profiles.profile import load_profile

    tolerance = None if request is None else load_profile(request.profile).clock.tolerance_ppm
    if request is None or tolerance is None:
        return 0.0
    return 1e-6 * (tolerance + _OTHER_CLOCK_PPM) * request.settings.frequency_hz
