"""What lies between a transmitter's samples and a receiver's, by the names of the command line.

``sscc link`` simulates such a path inside one program, ``sscc channel`` puts it between two, and
the loopback radio has it on its air: all three take every channel and every impairment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowgraphs.impairments import LinkImpairments, LinkPath, overlaid
from hw_profiles.digital_twin import DigitalTwin, digital_twin
from hw_profiles.limits import DirectionSettings, check_settings, nearest_in
from hw_profiles.profile import load_profile
from phy import awgn, rayleigh_block, rayleigh_iid, rayleigh_jakes
from phy.chain import Chain, Propagation
from phy.channel import Channel
from phy.impairments import AdditiveNoise
from phy.ofdm import Ofdm
from phy.random_process import child_seed
from phy.single_carrier import SingleCarrier
from phy.symbol_spaced import SymbolSpaced
from phy.tapped_delay_line import TappedDelayLine
from phy.waveform import Waveform

MULTIPATH = {f"tdl-{letter}": f"TDL-{letter.upper()}" for letter in "abcde"}
"""Names of the tapped delay lines, and what :data:`phy.tapped_delay_line.PROFILES` calls them."""
CHANNELS = ("awgn", "rayleigh", "rayleigh-block", "rayleigh-iid", *MULTIPATH)
WAVEFORMS: dict[str, Waveform] = {
    "symbols": SymbolSpaced(),
    "single-carrier": SingleCarrier(),
    "ofdm": Ofdm(),
}
"""Waveforms by the names in the command line."""
_CARRIER_HZ = 2.4e9  # of radios that can tune to it
_LARGEST_SNR_DB = 200.0  # either way; amplitudes and their squares stay far inside float32


def samples_per_symbol(waveform: str) -> int:
    """Samples that a symbol of a waveform has.

    Raises:
        ValueError: no such waveform.
    """
    if waveform not in WAVEFORMS:
        raise ValueError(f"unknown waveform {waveform!r}; one of {', '.join(WAVEFORMS)}")
    return WAVEFORMS[waveform].samples_per_symbol


@dataclass(frozen=True)
class PathConfig:
    """Parameters of a path: a radio, a channel, another radio.

    Attributes:
        channel: one of :data:`CHANNELS`.
        es_n0_db: mean Es/N0 at the receiver for a signal of unit mean power, dB; -200 to 200, or
            ``inf`` for no noise.
        seed: seed of every random draw.
        doppler_hz: maximum Doppler shift of "rayleigh" and of the delay lines.
        delay_spread_s: root-mean-square delay spread of the delay lines.
        symbol_rate: symbols per second.
        waveform: one of :data:`WAVEFORMS`; "symbols" is one sample per symbol, ideally timed. A
            symbol's energy is spread over its samples.
        block_length: symbols per fading block of "rayleigh-block".
        profile: hardware profile of both ends, whose digital twins they are.
        frequency_hz: carrier frequency of the twins; None for the nearest to 2.4 GHz.
        impairments: faults of the two radios, in place of those of the profile.
    """

    channel: str = "rayleigh"
    es_n0_db: float = 15.0
    seed: int = 1
    doppler_hz: float = 50.0
    delay_spread_s: float = 100e-9
    symbol_rate: float = 1e6
    waveform: str = "symbols"
    block_length: int = 1000
    profile: str = "simulated"
    frequency_hz: float | None = None
    impairments: LinkImpairments = field(default_factory=LinkImpairments)

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise ValueError(f"unknown channel {self.channel!r}; one of {', '.join(CHANNELS)}")
        samples_per_symbol(self.waveform)  # refuses unknown ones
        if not 0 < self.symbol_rate < np.inf:
            raise ValueError(f"the symbol rate must be positive, not {self.symbol_rate:g}")
        self._require_what_the_profile_offers()
        if self.waveform == "symbols":
            self._require_ideal_radios()
        if not (abs(self.es_n0_db) <= _LARGEST_SNR_DB or self.es_n0_db == np.inf):
            raise ValueError(
                f"es_n0_db must be -{_LARGEST_SNR_DB:g} to {_LARGEST_SNR_DB:g} dB, "
                f"not {self.es_n0_db:g}"
            )
        self.make_path(np.random.SeedSequence(0), np.random.SeedSequence(0))  # may refuse, too

    @property
    def sample_rate(self) -> float:
        """Samples per second."""
        return self.symbol_rate * self.phy_waveform.samples_per_symbol

    @property
    def carrier_hz(self) -> float:
        """Carrier frequency."""
        if self.frequency_hz is not None:
            return self.frequency_hz
        profile = load_profile(self.profile)
        direction = profile.rx or profile.tx
        assert direction is not None
        return nearest_in(direction.frequency, _CARRIER_HZ)

    @property
    def phy_waveform(self) -> Waveform:
        """The waveform that the name stands for."""
        return WAVEFORMS[self.waveform]

    def make_path(
        self, channel_seed: np.random.SeedSequence, radio_seed: np.random.SeedSequence
    ) -> LinkPath:
        """What lies between transmitter and receiver: two radios, and a channel between them."""
        return LinkPath(
            self.make_transmitting_end(radio_seed),
            self.make_channel(channel_seed),
            self.make_receiving_end(radio_seed),
            self.impairments.level_db,
            self.symbol_rate,
        )

    def make_transmitting_end(self, radio_seed: np.random.SeedSequence) -> Chain:
        """The stages of the sending radio."""
        given = self.impairments.transmitter(self.sample_rate)
        stages = overlaid(self._twin().transmitter, given)
        return stages.block(self.sample_rate, child_seed(radio_seed, 0))

    def make_receiving_end(self, radio_seed: np.random.SeedSequence) -> Chain:
        """The stages of the receiving radio."""
        given = self.impairments.receiver(self.sample_rate)
        stages = overlaid(self._twin().receiver, given)
        return stages.block(self.sample_rate, child_seed(radio_seed, 1))

    def _twin(self) -> DigitalTwin:
        return digital_twin(
            load_profile(self.profile),
            self.carrier_hz,
            self.impairments.full_scale,
            np.random.SeedSequence([self.seed, 2]),  # the same radios whatever they send
        )

    def make_channel(self, seed: np.random.SeedSequence) -> Channel | Chain:
        """The channel's stream object, at the sample rate: a chain if it has echoes."""
        # A symbol's energy is spread over its samples; the noise has N0 in each of them.
        spread = self.phy_waveform.samples_per_symbol
        snr_db = self.es_n0_db - 10 * np.log10(spread)
        match self.channel:
            case "awgn":
                return awgn(snr_db, seed=seed)
            case "rayleigh":
                return rayleigh_jakes(
                    snr_db,
                    doppler_hz=self.doppler_hz,
                    symbol_rate_hz=self.sample_rate,
                    seed=seed,
                )
            case "rayleigh-block":
                return rayleigh_block(snr_db, block_length=spread * self.block_length, seed=seed)
            case "rayleigh-iid":
                return rayleigh_iid(snr_db, seed=seed)
            case _:
                fading = TappedDelayLine(
                    MULTIPATH[self.channel], self.delay_spread_s, self.doppler_hz
                )
                noise = AdditiveNoise.from_es_n0(self.es_n0_db, spread)
                return Propagation(fading=fading, noise=noise).block(self.sample_rate, seed)

    def _require_ideal_radios(self) -> None:
        needs = "needs a waveform with samples, 'single-carrier' or 'ofdm'"
        if self.channel in MULTIPATH:
            raise ValueError(f"the channel {self.channel!r} {needs}")
        if self.profile != "simulated":
            raise ValueError(f"the profile {self.profile!r} {needs}")
        if self.impairments != LinkImpairments():
            raise ValueError(
                "the waveform 'symbols' is ideally timed and tuned: whatever radios do to samples "
                f"{needs}"
            )

    def _require_what_the_profile_offers(self) -> None:
        profile = load_profile(self.profile)
        settings = DirectionSettings(self.sample_rate, self.carrier_hz)
        if profile.rx is not None:
            check_settings(profile, rx=settings)
        if profile.tx is not None:
            check_settings(profile, tx=settings)
