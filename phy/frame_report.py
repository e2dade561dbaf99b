"""The frame report: everything the receiver knows of one detected frame.

A frame is reported when it has been demodulated. Whether its payload was right is known later: the
CRC belongs to the transport block, which may span many frames, and is checked once the block is
complete or given up (:class:`phy.message.BlockReceived`, which names its frames by their sample
index). :func:`complete_reports` joins both, and notes which frames overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from phy.error_profile import ErrorBurst
from phy.frame import FrameHeader
from phy.link_adaptation import bit_information, snr_of_information
from phy.llr_statistics import LlrStatistics
from phy.message import BlockReceived
from phy.modulation import Modulation
from phy.sample_statistics import SampleStatistics

CUT = "cut by the end of the stream"
OUT_OF_REACH = "carrier offset beyond the search range"
_FADE_SAMPLES = 256  # symbols of a frame at which its fading is looked at
_LEAST_OVERLAP = 1 / 32  # of a frame; less than that is lost or inserted samples


@dataclass(frozen=True)
class FrameReport:
    """What became of one detected frame.

    Attributes:
        sample_index: absolute index of the preamble's first sample.
        detection_metric: J of :mod:`phy.detection`, both chirps' normalized correlation.
        header: the decoded header, or None.
        payload_used: the payload's soft bits went to their block.
        stage_failed: None, "header", or "detection" for a preamble that is out of reach.
        failure: what failed, in words, or None.
        snr_db: estimated Es/N0 over the frame (over preamble and header if the header failed), dB.
        evm_db: error vector magnitude of the known symbols after equalization, dB.
        noise_variance: estimate of N0.
        doppler_hz: the Doppler shift chosen for interpolation; None without a Wiener filter.
        cfo_hz: carrier offset; None where the waveform knows none.
        clock_ppm: offset of the sender's symbol clock, positive where it is slow; None likewise.
        end_sample: absolute index behind the frame's last sample; where the header failed, behind
            the header's.
        delay_spread_s: root-mean-square delay spread; None where the waveform measures none.
        faded: share of the data symbols whose gain is more than 10 dB below the frame's mean.
        effective_snr_db: SNR of a channel without fading over which the payload's bits carry as
            much, dB; None without a payload.
        burst: stretch of the frame in which the known symbols fit worse than elsewhere, or None.
        samples: level, DC, clipping, tones and gaps of the frame's samples.
        llr: statistics of the payload's soft bits, None without a payload.
        preamble_snr_db: Es/N0 by the share of the preamble in the samples' energy, dB; a lower
            bound, since a carrier or clock offset and samples beside the peak reduce that share.
        payload_ok: the frame's transport block was decoded with a correct CRC; None if that is not
            decided, or the payload was not used.
        ldpc_iterations: mean LDPC iterations per code block of that block, or None.
        overlaps: sample index of another frame that lies over this one, or None.
        anticipated: place and header were known from the frame before (:mod:`phy.anticipation`);
            what is left of them in a fade only had to agree.
    """

    sample_index: int
    detection_metric: float
    header: FrameHeader | None
    payload_used: bool
    stage_failed: str | None
    failure: str | None
    snr_db: float
    evm_db: float
    noise_variance: float
    doppler_hz: float | None
    cfo_hz: float | None = None
    clock_ppm: float | None = None
    end_sample: int = 0
    delay_spread_s: float | None = None
    faded: float = 0.0
    effective_snr_db: float | None = None
    burst: ErrorBurst | None = None
    samples: SampleStatistics | None = None
    llr: LlrStatistics | None = None
    preamble_snr_db: float | None = None
    payload_ok: bool | None = None
    ldpc_iterations: float | None = None
    overlaps: int | None = None
    anticipated: bool = False

    @property
    def detected(self) -> bool:
        """A preamble was found within reach."""
        return self.stage_failed != "detection"

    @property
    def header_ok(self) -> bool:
        """The header is known: its CRC and fields are right, or it was anticipated."""
        return self.header is not None

    def to_json(self) -> dict[str, object]:
        """All figures by name, flat, without those that do not apply; not-a-number is None."""
        values: dict[str, object] = {
            "detected": self.detected,
            "header_ok": self.header_ok,
            "payload_ok": bool(self.payload_ok),
        }
        for name, value in asdict(self).items():
            if name == "header":
                values["header"] = None if self.header is None else self.header.fields()
            elif name in ("samples", "burst", "llr"):
                for part, figure in (value or {}).items():
                    if part != "powers":
                        values[part if name == "samples" else f"{name}_{part}"] = figure
            elif name != "payload_ok":
                values[name] = value
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in values.items()
        }


def gain_fading(
    modulation: Modulation, gain: npt.NDArray[np.complex64], noise_variance: float
) -> tuple[float, float]:
    """How much the fading inside of a frame costs.

    Arguments:
        modulation: of the payload.
        gain: (n,) complex64 channel gain at the data symbols.
        noise_variance: N0.

    Returns:
        The share of symbols more than 10 dB below the mean, and the effective SNR in dB by mutual
        information (:func:`phy.link_adaptation.bit_information`).
    """
    some = gain[:: max(1, gain.size // _FADE_SAMPLES)]
    power = some.real.astype(np.float64) ** 2 + some.imag.astype(np.float64) ** 2
    mean = float(power.mean())
    mean_db = float(10 * np.log10(max(mean / noise_variance, 1e-12)))
    if power.min() > 0.5 * mean:
        return 0.0, mean_db  # within 3 dB nothing is lost
    faded = float(np.mean(power < 0.1 * mean))
    snr_db = 10 * np.log10(np.maximum(power / noise_variance, 1e-12))
    information = float(bit_information(modulation, snr_db).mean())
    # At high SNR all bits are known, and the inverse says nothing.
    return faded, min(snr_of_information(modulation, information), mean_db)


def complete_reports(events: Iterable[object]) -> list[FrameReport]:
    """The frame reports of a reception, with what became of their payloads.

    Arguments:
        events: of :class:`phy.receiver.Receiver`, in any order. Of an endless stream, those of any
            stretch: what lies outside of it is missing from the reports.

    Returns:
        Reports in the order of the stream, their `payload_ok`, `ldpc_iterations` and `overlaps`
        filled in. A block that failed and then succeeded (with more frames) counts as right.
    """
    everything = list(events)
    outcome: dict[int, BlockReceived] = {}
    for event in everything:
        if isinstance(event, BlockReceived):
            for index in event.frame_samples:
                if index not in outcome or event.data is not None:
                    outcome[index] = event
    reports = sorted(
        (event for event in everything if isinstance(event, FrameReport)),
        key=lambda report: report.sample_index,
    )
    completed = []
    furthest: FrameReport | None = None
    for position, report in enumerate(reports):
        block = outcome.get(report.sample_index)
        overlaps = None
        if furthest is not None and _overlap(furthest, report):
            overlaps = furthest.sample_index
        elif position + 1 < len(reports) and _overlap(report, reports[position + 1]):
            overlaps = reports[position + 1].sample_index
        if report.detected and (furthest is None or report.end_sample > furthest.end_sample):
            furthest = report
        completed.append(
            replace(
                report,
                payload_ok=None if block is None else block.data is not None,
                ldpc_iterations=None if block is None else block.iterations,
                overlaps=overlaps,
            )
        )
    return completed


def _overlap(first: FrameReport, second: FrameReport) -> bool:
    """The second frame begins well inside of the first one."""
    length = first.end_sample - first.sample_index
    return second.detected and second.sample_index < first.end_sample - _LEAST_OVERLAP * length
