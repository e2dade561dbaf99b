"""The simulated link: image, codec, transmitter, channel, receiver, codec, image.

The transmitter and the receiver exchange only samples (and, with perfect channel knowledge, the
gains that a simulation knows). They begin with a random stretch of noise, so that the receiver has
to find the first frame.

**Axes.** ``es_n0_db`` is the mean received energy per channel symbol over N0. ``esrc_n0_db`` is our
energy per source sub-pixel, ``E_src/N0 = (Es/N0) * channel uses / sub-pixels``, with all overhead
(preambles, headers, pilots) counted as channel uses; it compares schemes that spend different
numbers of symbols on the same image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from flowgraphs.adaptation import AUTO, scheme_of
from flowgraphs.closed_loop import Direction, Exchange, send_in_rounds
from flowgraphs.impairments import LinkImpairments, LinkPath, overlaid
from hw_profiles.digital_twin import digital_twin
from hw_profiles.limits import DirectionSettings, check_settings, nearest_in
from hw_profiles.profile import load_profile
from phy import (
    FrameReport,
    MessageReceived,
    Receiver,
    ReceiverConfig,
    Transmitter,
    TransmitterConfig,
    awgn,
    failed_stage,
    rayleigh_block,
    rayleigh_iid,
    rayleigh_jakes,
)
from phy.chain import Chain, Propagation
from phy.channel import Channel
from phy.diagnosis import diagnose
from phy.frame_report import complete_reports
from phy.harq import FEEDBACK_MCS, HarqConfig, HarqSender
from phy.impairments import AdditiveNoise
from phy.mcs import mcs_names
from phy.ofdm import Ofdm
from phy.random_process import child_seed
from phy.single_carrier import SingleCarrier
from phy.symbol_spaced import SymbolSpaced
from phy.tapped_delay_line import TappedDelayLine
from phy.waveform import Waveform
from source_codec import Codec, CorruptStream
from source_codec.composition import Samples

MULTIPATH = {f"tdl-{letter}": f"TDL-{letter.upper()}" for letter in "abcde"}
"""Names of the tapped delay lines, and what :data:`phy.tapped_delay_line.PROFILES` calls them."""
CHANNELS = ("awgn", "rayleigh", "rayleigh-block", "rayleigh-iid", *MULTIPATH)
CSI = {"pilots": "wiener", "least-squares": "least_squares", "perfect": "perfect"}
"""Names of the receiver's channel knowledge, and what :class:`phy.ReceiverConfig` calls them."""
WAVEFORMS: dict[str, Waveform] = {
    "symbols": SymbolSpaced(),
    "single-carrier": SingleCarrier(),
    "ofdm": Ofdm(),
}
"""Waveforms by the names in the command line."""
SOURCE_STAGE = "source"
"""The stage behind the receiver's own: the codec refused the bits, or the pixels differ."""
_LEAD_IN = 4096  # samples of noise before the first frame, at most
_CARRIER_HZ = 2.4e9  # of radios that can tune to it
_LARGEST_SNR_DB = 200.0  # either way; amplitudes and their squares stay far inside float32


@dataclass(frozen=True)
class LinkConfig:
    """Parameters of a simulated link.

    Attributes:
        channel: one of :data:`CHANNELS`.
        es_n0_db: mean Es/N0 at the receiver, dB; -200 to 200.
        mcs: modulation-and-coding scheme, for example "qpsk-1/2"; "auto" takes the fastest that the
            channel allows, see :mod:`flowgraphs.adaptation`.
        seed: seed of every random draw.
        doppler_hz: maximum Doppler shift of "rayleigh" and of the delay lines.
        delay_spread_s: root-mean-square delay spread of the delay lines.
        symbol_rate: symbols per second.
        waveform: one of :data:`WAVEFORMS`; "symbols" is one sample per symbol, ideally timed.
        block_length: symbols per fading block of "rayleigh-block".
        csi: "pilots" (Wiener filter), "least-squares" or "perfect".
        depth: frames that the interleaver spans.
        harq: rounds of transmission, 1 to 15, until the image is acknowledged over a return path of
            the same mean SNR; 0: it is sent once, without feedback.
        profile: hardware profile of both ends, of which the link simulates the digital twins.
        frequency_hz: carrier frequency of the twins; None for the nearest to 2.4 GHz.
        impairments: faults of the two radios, in place of those of the profile.
    """

    channel: str = "rayleigh"
    es_n0_db: float = 15.0
    mcs: str = "qpsk-1/2"
    seed: int = 1
    doppler_hz: float = 50.0
    delay_spread_s: float = 100e-9
    symbol_rate: float = 1e6
    waveform: str = "symbols"
    block_length: int = 1000
    csi: str = "pilots"
    depth: int = 16
    harq: int = 0
    profile: str = "simulated"
    frequency_hz: float | None = None
    impairments: LinkImpairments = field(default_factory=LinkImpairments)

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise ValueError(f"unknown channel {self.channel!r}; one of {', '.join(CHANNELS)}")
        if self.csi not in CSI:
            raise ValueError(f"unknown csi {self.csi!r}; one of {', '.join(CSI)}")
        if self.waveform not in WAVEFORMS:
            raise ValueError(f"unknown waveform {self.waveform!r}; one of {', '.join(WAVEFORMS)}")
        self._require_what_the_profile_offers()
        if self.waveform == "symbols":
            self._require_ideal_radios()
        if self.channel == "rayleigh-iid" and self.csi != "perfect":
            raise ValueError(
                "rayleigh-iid fades every symbol independently, so pilots tell nothing of the "
                "others: use csi 'perfect'"
            )
        if not abs(self.es_n0_db) <= _LARGEST_SNR_DB:
            raise ValueError(
                f"es_n0_db must be -{_LARGEST_SNR_DB:g} to {_LARGEST_SNR_DB:g} dB, "
                f"not {self.es_n0_db:g}"
            )
        if self.harq:
            HarqConfig(self.harq)
        # All of these refuse impossible parameters.
        self.make_transmitter(mcs_names()[0] if self.mcs == AUTO else self.mcs)
        self.make_receiver()
        self.make_path(np.random.SeedSequence(0), np.random.SeedSequence(0))

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

    def make_transmitter(self, mcs: str) -> Transmitter:
        """The sending end, with a scheme."""
        return Transmitter(TransmitterConfig(mcs, self.depth, waveform=self.phy_waveform))

    def make_receiver(self) -> Receiver:
        """The receiving end."""
        return Receiver(
            ReceiverConfig(
                waveform=self.phy_waveform,
                symbol_rate_hz=self.symbol_rate,
                csi=CSI[self.csi],  # type: ignore[arg-type]
            )
        )

    def make_direction(
        self,
        channel_seed: np.random.SeedSequence,
        radio_seed: np.random.SeedSequence,
        fading_step: int = 1 << 16,
    ) -> Direction:
        """One way from end to end; the gain is kept at every `fading_step`-th sample."""
        path = self.make_path(channel_seed, radio_seed)
        return Direction(path, self.make_receiver(), fading_step)

    def make_path(
        self, channel_seed: np.random.SeedSequence, radio_seed: np.random.SeedSequence
    ) -> LinkPath:
        """What lies between transmitter and receiver: two radios, and a channel between them."""
        rate = self.sample_rate
        faults = self.impairments
        twin = digital_twin(
            load_profile(self.profile),
            self.carrier_hz,
            faults.full_scale,
            np.random.SeedSequence([self.seed, 2]),  # the same radios whatever they send
        )
        transmitter = overlaid(twin.transmitter, faults.transmitter(rate))
        receiver = overlaid(twin.receiver, faults.receiver(rate))
        return LinkPath(
            transmitter.block(rate, child_seed(radio_seed, 0)),
            self.make_channel(channel_seed),
            receiver.block(rate, child_seed(radio_seed, 1)),
            faults.level_db,
            self.symbol_rate,
        )

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


@dataclass(frozen=True)
class LinkReport:
    """What came out of a simulated link.

    Attributes:
        exact: every pixel came back.
        image: the received image, or None; only ever an exact one.
        stage_failed: None, or the stage that failed: "detection", "header", "ldpc", "digest",
            "source".
        mcs: modulation-and-coding scheme.
        bits: source bits, the length of the ``.ddm`` stream.
        bpsp: source bits per sub-pixel.
        channel_uses: symbols sent, all overhead included, retransmissions and feedback too.
        blocks: transport blocks sent.
        block_errors: transport blocks not received.
        es_n0_db: as configured.
        esrc_n0_db: energy per source sub-pixel over N0.
        snr_estimated_db: the receiver's estimate of Es/N0; None if no message was seen.
        evm_db: error vector magnitude of known symbols; None if no message was seen.
        clipped_samples: samples beyond full scale of a converter, at either end.
        exchange: how it went with HARQ; None without.
        frames: the receiver's report of every frame, with what became of its payload.
        diagnosis: why frames were lost, in words; empty if none was.
        fading_db: |h|^2 in dB (of multipath the mean over the band) along the transmission, thinned
            out for plotting.
        sample_rate: samples per second, the time axis of frames and fading.
        fading_step: samples between two values of ``fading_db``.
    """

    exact: bool
    image: Samples | None
    stage_failed: str | None
    mcs: str
    bits: int
    bpsp: float
    channel_uses: int
    blocks: int
    block_errors: int
    es_n0_db: float
    esrc_n0_db: float
    snr_estimated_db: float | None
    evm_db: float | None
    clipped_samples: int
    exchange: Exchange | None
    frames: list[FrameReport] = field(repr=False)
    diagnosis: list[str]
    fading_db: NDArray[np.float64] = field(repr=False)
    sample_rate: float
    fading_step: int

    @property
    def psnr_db(self) -> float | None:
        """Infinite if exact; None otherwise, since then there is no image to measure."""
        return float("inf") if self.exact else None

    def to_json(self) -> dict[str, object]:
        """The figures by their names in the command's JSON."""
        names = (
            "exact", "psnr_db", "bits", "bpsp", "channel_uses", "blocks", "block_errors",
            "es_n0_db", "esrc_n0_db", "snr_estimated_db", "evm_db", "stage_failed", "mcs",
            "clipped_samples", "diagnosis",
        )  # fmt: skip
        of_exchange = {f.name: getattr(self.exchange, f.name, None) for f in fields(Exchange)}
        frames = [frame.to_json() for frame in self.frames]
        return {name: getattr(self, name) for name in names} | of_exchange | {"frames": frames}


def run_link(
    image: NDArray[np.uint8],
    config: LinkConfig,
    codec: Codec,
    progress: Callable[[float], None] | None = None,
) -> LinkReport:
    """Sends an image over the simulated link.

    Args:
        image: uint8 (H, W, 3) or (H, W).
        config: the link's parameters.
        codec: source codec of both ends.
        progress: called with the fraction done.

    Raises:
        UnsupportedImage: the codec does not take the image.
        MessageLengthError: its stream is too long for the scheme and depth.
    """
    report = progress or (lambda fraction: None)
    seeds = np.random.SeedSequence(config.seed).spawn(5)
    lead_seed, channel_seed, radio_seed, return_channel_seed, return_radio_seed = seeds
    lead_in = int(np.random.default_rng(lead_seed).integers(_LEAD_IN))
    stream = codec.encode(image)
    report(0.3)

    transmitter = config.make_transmitter(scheme_of(config, len(stream)).name)
    layout = transmitter.layout(len(stream))
    channel_uses = transmitter.channel_uses(len(stream))
    total = channel_uses * config.phy_waveform.samples_per_symbol
    fading_step = max(1, total // 4000)
    link = config.make_direction(channel_seed, radio_seed, fading_step)

    def show() -> None:
        report(0.3 + 0.4 * min(link.samples / total, 1.0))

    link.carry(np.zeros(lead_in, dtype=np.complex64))
    exchange = None
    if config.harq:
        exchange = send_in_rounds(
            HarqSender(transmitter, stream, config=HarqConfig(config.harq)),
            transmitter,
            Transmitter(TransmitterConfig(FEEDBACK_MCS, waveform=config.phy_waveform)),
            link,
            config.make_direction(return_channel_seed, return_radio_seed),
            show,
        )
        channel_uses = exchange.forward_channel_uses + exchange.return_channel_uses
    else:
        for samples in transmitter.send(stream):
            link.carry(samples)
            show()
        link.carry(transmitter.flush())
    link.carry(np.zeros(_LEAD_IN, dtype=np.complex64))
    link.flush()
    events = link.events

    messages = [event for event in events if isinstance(event, MessageReceived)]
    complete = [message for message in messages if message.data is not None]
    message = next(iter(complete or messages), None)
    received, stage = None, failed_stage(events)
    if message is not None and message.data is not None:
        try:
            received = codec.decode(message.data)
        except CorruptStream:
            stage = SOURCE_STAGE
        if received is not None and not np.array_equal(received, image):
            received, stage = None, SOURCE_STAGE
    report(1.0)

    es_n0 = 10 ** (config.es_n0_db / 10)
    return LinkReport(
        exact=received is not None,
        image=received,
        stage_failed=stage,
        mcs=transmitter.mcs.name,
        bits=8 * len(stream),
        bpsp=8 * len(stream) / image.size,
        channel_uses=channel_uses,
        blocks=layout.block_count,
        block_errors=layout.block_count if message is None else message.block_errors,
        es_n0_db=config.es_n0_db,
        esrc_n0_db=float(10 * np.log10(es_n0 * channel_uses / image.size)),
        snr_estimated_db=None if message is None else message.snr_db,
        evm_db=None if message is None else message.evm_db,
        clipped_samples=link.clipped_samples,
        exchange=exchange,
        frames=complete_reports(events),
        diagnosis=diagnose(events, link.stream_report),
        fading_db=20 * np.log10(np.maximum(np.abs(np.concatenate(link.fading)), 1e-6)),
        sample_rate=config.sample_rate,
        fading_step=fading_step,
    )
