"""Options of everything that simulates a channel between two radios: ``link`` and ``channel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sscc.quantities import imbalance, phase_noise_mask, seconds, two_times

if TYPE_CHECKING:
    from flowgraphs.impairments import LinkImpairments

CHANNEL_PANEL, RADIO_PANEL = "Channel", "Radios (not for the waveform symbols)"

Channel = Annotated[
    str,
    typer.Option(
        "--channel",
        "-c",
        metavar="NAME",
        rich_help_panel=CHANNEL_PANEL,
        help="awgn; rayleigh (time-selective, Jakes spectrum); rayleigh-block; rayleigh-iid; "
        "tdl-a to tdl-e (multipath of 3GPP TR 38.901, not for symbols).",
    ),
]
Snr = Annotated[
    float, typer.Option("--snr", "-s", metavar="DB", help="Mean Es/N0 at the receiver, dB.")
]
Doppler = Annotated[
    float,
    typer.Option(
        metavar="HZ",
        min=0,
        rich_help_panel=CHANNEL_PANEL,
        help="Maximum Doppler shift of rayleigh and tdl.",
    ),
]
DelaySpread = Annotated[
    Any,
    typer.Option(
        metavar="TIME",
        parser=seconds,
        rich_help_panel=CHANNEL_PANEL,
        help="Root-mean-square delay spread of tdl, such as 300ns or 1us; without a unit in s.",
    ),
]
BlockLength = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=CHANNEL_PANEL,
        help="Symbols of equal gain in rayleigh-block.",
    ),
]
CarrierOffset = Annotated[
    float, typer.Option(metavar="HZ", rich_help_panel=RADIO_PANEL, help="Carrier offset.")
]
CarrierDrift = Annotated[
    float, typer.Option(metavar="HZ/S", rich_help_panel=RADIO_PANEL, help="Drift of the carrier.")
]
ClockOffset = Annotated[
    float, typer.Option(metavar="PPM", rich_help_panel=RADIO_PANEL, help="Sampling clock offset.")
]
PhaseNoise = Annotated[
    Any,
    typer.Option(
        metavar="DBC@HZ,...",
        parser=phase_noise_mask,
        rich_help_panel=RADIO_PANEL,
        help="Phase noise of either oscillator, dBc/Hz at offsets in Hz: a mask, such as "
        "-80@1e3,-110@1e5,-130@1e6, or a single point of a slope of 20 dB per decade.",
    ),
]
IqImbalance = Annotated[
    Any,
    typer.Option(
        metavar="DB,DEG",
        parser=imbalance,
        rich_help_panel=RADIO_PANEL,
        help="Gain and phase error of the receiver's mixer, such as 1,5.",
    ),
]
DcOffset = Annotated[
    float | None,
    typer.Option(
        metavar="DBC",
        rich_help_panel=RADIO_PANEL,
        help="DC offset of the receiver over the received signal.",
    ),
]
AmplifierBackoff = Annotated[
    float | None,
    typer.Option(
        metavar="DB",
        rich_help_panel=RADIO_PANEL,
        help="Saturation of the transmitter's amplifier (Rapp, p = 2) over the mean power.",
    ),
]
Level = Annotated[
    float,
    typer.Option(
        metavar="DB",
        rich_help_panel=RADIO_PANEL,
        help="Receive level; full scale of the converter does not move with it, and the noise "
        "does.",
    ),
]
Agc = Annotated[
    Any,
    typer.Option(
        metavar="ATTACK,DECAY",
        parser=two_times,
        rich_help_panel=RADIO_PANEL,
        help="Automatic gain control with these time constants, such as 100us,10ms.",
    ),
]
AdcBits = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=24,
        rich_help_panel=RADIO_PANEL,
        help="Resolution of the receiver's converter.",
    ),
]
ClippingLevel = Annotated[
    float,
    typer.Option(
        metavar="DB",
        rich_help_panel=RADIO_PANEL,
        help="Full scale of the converters, of I or Q, over their root mean square at level 0.",
    ),
]
TwinProfile = Annotated[
    str,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|FILE",
        rich_help_panel=RADIO_PANEL,
        help="Hardware profile of both ends, of which the link simulates the faults; the "
        "options of this group replace them.",
    ),
]
TwinFrequency = Annotated[
    float | None,
    typer.Option(
        "--frequency",
        metavar="HZ",
        rich_help_panel=RADIO_PANEL,
        help="Carrier frequency, for the oscillators' errors.  [default: the nearest to 2.4 "
        "GHz that the profile offers]",
    ),
]


def impairments_of(
    cfo: float,
    carrier_drift: float,
    clock_offset: float,
    phase_noise: tuple[tuple[float, float], ...] | None,
    iq_imbalance: tuple[float, float] | None,
    dc: float | None,
    amplifier_backoff: float | None,
    level: float,
    agc: tuple[float, float] | None,
    adc_bits: int | None,
    clipping_level: float,
) -> LinkImpairments:
    """The faults that the options describe.

    Raises:
        ValueError: impossible ones.
    """
    from flowgraphs.impairments import LinkImpairments

    return LinkImpairments(
        cfo_hz=cfo,
        carrier_drift_hz_per_s=carrier_drift,
        clock_ppm=clock_offset,
        phase_noise=phase_noise or (),
        iq_gain_db=iq_imbalance[0] if iq_imbalance else 0.0,
        iq_phase_deg=iq_imbalance[1] if iq_imbalance else 0.0,
        dc_dbc=dc,
        amplifier_backoff_db=amplifier_backoff,
        level_db=level,
        agc_s=agc,
        adc_bits=adc_bits,
        clipping_db=clipping_level,
    )
