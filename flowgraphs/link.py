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
from flowgraphs.path import WAVEFORMS as WAVEFORMS
from flowgraphs.path import PathConfig
from phy import (
    FrameReport,
    MessageReceived,
    Receiver,
    ReceiverConfig,
    Transmitter,
    TransmitterConfig,
    failed_stage,
)
from phy.diagnosis import diagnose
from phy.frame_report import complete_reports
from phy.harq import FEEDBACK_MCS, HarqConfig, HarqSender
from phy.mcs import mcs_names
from source_codec import Codec, CorruptStream
from source_codec.composition import Samples

CSI = {"pilots": "wiener", "least-squares": "least_squares", "perfect": "perfect"}
"""Names of the receiver's channel knowledge, and what :class:`phy.ReceiverConfig` calls them."""
SOURCE_STAGE = "source"
"""The stage behind the receiver's own: the codec refused the bits, or the pixels differ."""
_LEAD_IN = 4096  # samples of noise before the first frame, at most


@dataclass(frozen=True)
class LinkConfig(PathConfig):
    """Parameters of a simulated link: those of the path, and

    Attributes:
        mcs: modulation-and-coding scheme, for example "qpsk-1/2"; "auto" takes the fastest that the
            channel allows, see :mod:`flowgraphs.adaptation`.
        csi: "pilots" (Wiener filter), "least-squares" or "perfect".
        depth: frames that the interleaver spans.
        harq: rounds of transmission, 1 to 15, until the image is acknowledged over a return path of
            the same mean SNR; 0: it is sent once, without feedback.
    """

    mcs: str = "qpsk-1/2"
    csi: str = "pilots"
    depth: int = 16
    harq: int = 0

    def __post_init__(self) -> None:
        if self.csi not in CSI:
            raise ValueError(f"unknown csi {self.csi!r}; one of {', '.join(CSI)}")
        super().__post_init__()
        if not np.isfinite(self.es_n0_db):
            raise ValueError(f"es_n0_db must be finite, not {self.es_n0_db:g}")
        if self.channel == "rayleigh-iid" and self.csi != "perfect":
            raise ValueError(
                "rayleigh-iid fades every symbol independently, so pilots tell nothing of the "
                "others: use csi 'perfect'"
            )
        if self.harq:
            HarqConfig(self.harq)
        # Both of these refuse impossible parameters.
        self.make_transmitter(mcs_names()[0] if self.mcs == AUTO else self.mcs)
        self.make_receiver()

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
