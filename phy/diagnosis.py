r"""Why a frame was lost, in words, from the figures of its report.

Every fault is put on one scale: the SNR in dB that it would leave if it were the only one. The
fault that leaves least, and less than the frame needs, is the most likely cause. A frame needs what
its scheme needs on AWGN (:mod:`phy.mcs`), its header -5 dB.

| fault | SNR that it leaves |
|---|---|
| cut off, carrier or clock out of reach, samples lost | none |
| gap of zeros, burst of interference | that over which the bits carry as much as over the parts |
| another frame over this one | that of the burst in which it shows; else what is measured |
| clipping of a share p | signal to distortion of a clipped Gaussian, :func:`clipping_sdr_db` |
| tone at -x dBc, IQ image at -x dB | x |
| fading within the frame | the effective SNR by mutual information |
| noise | the estimated SNR |

Findings of a frame that was received are faults that it survived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erfc, erfcinv

from phy.error_profile import CELLS, ErrorBurst
from phy.frame import HEADER_MODULATION
from phy.frame_report import CUT, OUT_OF_REACH, FrameReport, complete_reports
from phy.front_end_correction import LARGEST_IMAGE
from phy.link_adaptation import bit_information, snr_of_information
from phy.sample_statistics import SampleStatistics, decibels
from phy.stream_report import StreamReport
from phy.synchronization import LARGEST_CLOCK_OFFSET

HEADER_NEEDS_DB = -5.0
_NOTHING = -np.inf  # no SNR is left
_MARGIN_DB = 1.5  # estimates err, and the receiver is not ideal
_EXPLAINS_DB = 0.5  # puts a cause before the burst or noise that is only what shows of it
_HALF_DB = 3.0
_RISE_DB = 3.0
_CLIPPED = 1e-3  # shares below are not worth a word
_ZEROS = 1e-2
_IMAGE_DB = decibels(LARGEST_IMAGE**2)  # a weaker one is taken out
_TONE_DBC = -30.0
_FADING_LOSS_DB = 3.0
_CLOCK_EDGE = 0.97  # of the search range
_CLEAR_PREAMBLE_DB = 0.0  # 5 dB more than the header needs
_NEAR_MISS = 0.95
_DC_DBC = 10.0
_SILENT_DB = -250.0


@dataclass(frozen=True)
class Finding:
    """A fault seen in a frame.

    Attributes:
        fault: "cut", "reach", "clock", "overlap", "gap", "lost_samples", "burst", "clipping",
            "tone", "image", "fading" or "noise".
        text: in words, with the figures.
        leaves_db: the SNR that it would leave alone, dB.
    """

    fault: str
    text: str
    leaves_db: float


def findings(report: FrameReport) -> list[Finding]:
    """All faults seen in a frame, that which leaves least first.

    Arguments:
        report: of :func:`phy.frame_report.complete_reports`, so that overlaps are known.
    """
    radio = (_ahead(finding, report.snr_db) for finding in _in_samples(report.samples))
    found = [*_structural(report), *radio, *_in_payload(report)]
    return sorted(found, key=lambda finding: finding.leaves_db)


def most_likely_cause(report: FrameReport) -> str | None:
    """Why a frame was lost, in words; None if it was not, or if that is not decided.

    Arguments:
        report: of :func:`phy.frame_report.complete_reports`.
    """
    if report.failure is None and report.payload_ok is not False:
        return None
    needs_db = HEADER_NEEDS_DB if report.header is None else report.header.mcs.es_n0_db
    found = findings(report)
    if found and found[0].leaves_db < needs_db + _MARGIN_DB:
        return found[0].text
    if report.header is None:
        rise_db = _rise_behind_preamble_db(report)
        if rise_db > _RISE_DB:
            return f"interference behind the preamble: the level rises by {rise_db:.1f} dB"
        if report.preamble_snr_db is not None and report.preamble_snr_db > _CLEAR_PREAMBLE_DB:
            return (
                f"the preamble is clear ({report.preamble_snr_db:.1f} dB), but no header fits it: "
                "a symbol rate that differs by more than some hundred ppm, or another format"
            )
        return "no cause seen; header and preamble disagree"
    if found:
        return f"no sufficient cause seen; most noticeable: {found[0].text}"
    return (
        f"no cause seen in this frame: {report.snr_db:.1f} dB where {report.header.mcs.name} needs "
        f"{needs_db:.1f} dB; its transport block lacks other frames, or they failed"
    )


def _rise_behind_preamble_db(report: FrameReport) -> float:
    """Level of the header over that of the preamble, of a frame that ends there."""
    if report.samples is None:
        return 0.0
    powers = report.samples.powers
    preamble, header = powers[: powers.size // 8].mean(), powers[powers.size // 2 :].mean()
    return float(10 * np.log10(max(header, 1e-30) / max(preamble, 1e-30)))


def clipping_sdr_db(share: float) -> float:
    r"""Signal-to-distortion ratio of a Gaussian signal of which a share of samples is clipped.

    With I and Q clipped at A standard deviations, each with half the probability, the power of what
    is cut off is :math:`2 [(1 + A^2) Q(A) - A \varphi(A)]` of the signal's.

    Arguments:
        share: of the samples of which I or Q is clipped, 0 to 1.
    """
    if share <= 0:
        return np.inf
    tail = max((1 - np.sqrt(1 - min(share, 1.0))) / 2, 1e-12)  # Q(A)
    level = np.sqrt(2) * erfcinv(2 * tail)
    density = np.exp(-(level**2) / 2) / np.sqrt(2 * np.pi)
    return float(
        -10 * np.log10(2 * ((1 + level**2) * erfc(level / np.sqrt(2)) / 2 - level * density))
    )


def _joined_db(report: FrameReport, parts: Sequence[tuple[float, float]]) -> float:
    """SNR over which as much would come through as over parts of (share, linear SNR)."""
    modulation = HEADER_MODULATION if report.header is None else report.header.mcs.modulation
    share, snr = np.array(parts).T
    snr_db = 10 * np.log10(np.maximum(snr, 1e-10))
    return snr_of_information(modulation, float(share @ bit_information(modulation, snr_db)))


def _ahead(finding: Finding, snr_db: float) -> Finding:
    """A fault that makes up at least half of the noise that was measured goes before it."""
    if finding.leaves_db < snr_db + _HALF_DB:
        return replace(finding, leaves_db=min(finding.leaves_db, snr_db - _EXPLAINS_DB))
    return finding


def _structural(report: FrameReport) -> Iterator[Finding]:
    """Faults of which the receiver itself knows."""
    if report.failure == CUT:
        yield Finding("cut", "the capture ends inside of the frame", _NOTHING)
    if report.failure == OUT_OF_REACH:
        offset = "" if report.cfo_hz is None else f": {report.cfo_hz / 1e3:+.1f} kHz"
        yield Finding("reach", f"carrier offset beyond the search range{offset}", _NOTHING)
    burst = report.burst
    disturbed = burst is not None and _power_rises(report, burst)
    if report.clock_ppm is not None and report.snr_db > HEADER_NEEDS_DB and not disturbed:
        limit = 1e6 * LARGEST_CLOCK_OFFSET
        if abs(report.clock_ppm) > _CLOCK_EDGE * limit:
            text = (
                f"clock offset at or beyond the end of the search range: {report.clock_ppm:+.0f} "
                f"ppm of +-{limit:.0f} ppm"
            )
            yield Finding("clock", text, _NOTHING)
    if report.samples is not None and report.samples.zeros > _ZEROS:
        text = f"gap: {report.samples.zeros:.0%} of the frame's samples are exactly zero"
        snr = 10 ** (report.snr_db / 10) if np.isfinite(report.snr_db) else 0.0
        zeros = report.samples.zeros
        leaves = _joined_db(report, [(1 - zeros, snr), (zeros, 0.0)])
        yield Finding("gap", text, min(leaves, report.snr_db) - _EXPLAINS_DB)
    if report.overlaps is not None:
        leaves = report.snr_db if burst is None else _burst_leaves_db(report, burst)
        text = f"another frame lies over this one: that at sample {report.overlaps}"
        yield Finding("overlap", text, leaves - _EXPLAINS_DB if np.isfinite(leaves) else _NOTHING)


def _in_samples(samples: SampleStatistics | None) -> Iterator[Finding]:
    """Faults of the radio, and foreign signals."""
    if samples is None:
        return
    if samples.clipped > _CLIPPED:
        text = f"clipping: {samples.clipped:.1%} of samples at full scale"
        yield Finding("clipping", text, clipping_sdr_db(samples.clipped))
    if samples.tone is not None and samples.tone_dbc is not None and samples.tone_dbc > _TONE_DBC:
        text = (
            f"a tone of {samples.tone_dbc:+.1f} dBc at {samples.tone:+.3f} cycles per sample "
            "lies over the frame"
        )
        yield Finding("tone", text, -samples.tone_dbc)
    if samples.image_db > _IMAGE_DB:
        text = f"IQ imbalance: the mirror image lies at {samples.image_db:.1f} dB"
        yield Finding("image", text, -samples.image_db)


def _burst_leaves_db(report: FrameReport, burst: ErrorBurst) -> float:
    """SNR that a burst leaves: none inside of it, where the known symbols do not fit at all."""
    signal = report.noise_variance * 10 ** (report.snr_db / 10)
    inside = signal / burst.noise_inside if _power_rises(report, burst) else 0.0
    outside = signal / burst.noise_outside
    return _joined_db(report, [(burst.share, inside), (1 - burst.share, outside)])


def _in_payload(report: FrameReport) -> Iterator[Finding]:
    """What the known symbols and the channel estimate tell."""
    signal = report.noise_variance * 10 ** (report.snr_db / 10)
    needs_db = HEADER_NEEDS_DB if report.header is None else report.header.mcs.es_n0_db
    burst = report.burst
    if burst is not None:
        where = f"from {burst.first / CELLS:.0%} to {burst.stop / CELLS:.0%} of the frame"
        if _power_rises(report, burst):
            excess_db = 10 * np.log10(burst.noise_inside / burst.noise_outside)
            text = f"interference {where}, {excess_db:.1f} dB above the noise elsewhere in it"
            yield Finding("burst", text, _burst_leaves_db(report, burst))
        else:
            text = (
                f"{where} the known symbols do not fit, at an unchanged level: samples were lost "
                "or inserted, the phase jumped, or the symbol rate is off"
            )
            yield Finding("lost_samples", text, _burst_leaves_db(report, burst))
    elif report.effective_snr_db is not None:
        loss_db = report.snr_db - report.effective_snr_db
        if loss_db > _FADING_LOSS_DB:
            text = (
                f"fading: {report.faded:.0%} of the frame lie more than 10 dB below its mean, "
                f"which leaves {report.effective_snr_db:.1f} of {report.snr_db:.1f} dB"
            )
            yield Finding("fading", text, report.effective_snr_db)
    noise = report.noise_variance if burst is None else burst.noise_outside
    snr_db = 10 * np.log10(max(signal / noise, 1e-30)) if noise > 0 else np.nan
    if report.header is None and report.preamble_snr_db is not None:
        # What does not fit counts as noise there; the preamble knows better.
        snr_db = max(snr_db, report.preamble_snr_db)
    if snr_db < needs_db + _MARGIN_DB:
        what = "the header" if report.header is None else report.header.mcs.name
        text = f"noise: SNR of {snr_db:.1f} dB where {what} needs {needs_db:.1f} dB"
        yield Finding("noise", text, float(snr_db))


def _power_rises(report: FrameReport, burst: ErrorBurst) -> bool:
    """The samples in a burst have more power, by at least half of what its errors have."""
    if report.samples is None:
        return True
    powers = report.samples.powers
    inside = np.arange(CELLS) * powers.size // CELLS
    within = (inside >= burst.first) & (inside < burst.stop)
    if within.all():
        return True
    rise = float(powers[within].mean() - powers[~within].mean())
    return rise > 0.5 * (burst.noise_inside - burst.noise_outside)


def stream_cause(report: StreamReport) -> str:
    """Why nothing was received in a stream, in words, as far as its samples tell.

    Arguments:
        report: of :attr:`phy.receiver.Receiver.stream_report`.
    """
    samples = report.samples
    if samples is None:
        return "no samples came"
    if 2 * report.invalid > report.length:
        share = report.invalid / report.length
        return f"no preamble; {share:.0%} of the samples are no finite numbers"
    if samples.level_db < _SILENT_DB:
        return "no preamble; all samples are zero"
    if samples.tone is not None and samples.tone_dbc is not None and samples.tone_dbc > 0:
        return (
            f"no preamble; a strong carrier at {samples.tone:+.4f} cycles per sample, "
            f"{samples.tone_dbc:.1f} dB above all else"
        )
    if samples.dc_dbc > _DC_DBC:
        return f"no preamble; DC {samples.dc_dbc:.1f} dB above all else"
    if samples.clipped > 0.01:
        return f"no preamble; clipping: {samples.clipped:.1%} of samples at full scale"
    if report.near_miss > _NEAR_MISS:
        return (
            f"no preamble; the strongest trace of one reached {report.near_miss:.0%} of the "
            "detection threshold: the SNR is too low"
        )
    return f"no preamble; noise or other signals at {samples.level_db:.1f} dB"


def diagnose(events: Iterable[object], stream: StreamReport) -> list[str]:
    """Why frames of a reception were lost, in words, the most frequent cause first.

    Arguments:
        events: of :class:`phy.receiver.Receiver`.
        stream: its :attr:`phy.receiver.Receiver.stream_report`.

    Returns:
        One line for each kind of fault, with the number of frames and an example; one line about
        the stream if no frame was detected; empty if none was lost.
    """
    reports = complete_reports(events)
    if not reports:
        return [stream_cause(stream)]
    causes: dict[str, list[tuple[FrameReport, str]]] = {}
    for report in reports:
        cause = most_likely_cause(report)
        if cause is not None:
            found = findings(report)
            causes.setdefault(found[0].fault if found else "none", []).append((report, cause))
    lines = []
    for lost in sorted(causes.values(), key=len, reverse=True):
        report, cause = lost[0]
        stage = report.stage_failed or ("capture" if report.failure else "payload")
        count = "1 frame" if len(lost) == 1 else f"{len(lost)} frames"
        lines.append(f"{count} lost ({stage}): {cause} (at sample {report.sample_index})")
    return lines
