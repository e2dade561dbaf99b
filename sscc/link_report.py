"""What ``sscc link`` leaves behind: a report for people, the received image, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgraphs.link import LinkReport
from sscc.images import write_png

_LINES = (
    # label, key, format, unit
    ("Pixels exact", "exact", "", ""),
    ("Failed stage", "stage_failed", "", ""),
    ("PSNR", "psnr_db", ".2f", "dB"),
    ("Scheme", "mcs", "", ""),
    ("Source bits", "bits", ",", ""),
    ("Bits per sub-pixel", "bpsp", ".3f", ""),
    ("Channel uses", "channel_uses", ",", ""),
    ("of them for feedback", "return_channel_uses", ",", ""),
    ("Rounds", "rounds", "", ""),
    ("Feedback sent", "feedback_sent", "", ""),
    ("Feedback lost", "feedback_lost", "", ""),
    ("Blocks", "blocks", ",", ""),
    ("Blocks retransmitted", "blocks_retransmitted", ",", ""),
    ("Block errors", "block_errors", ",", ""),
    ("Es/N0", "es_n0_db", ".2f", "dB"),
    ("Esrc/N0", "esrc_n0_db", ".2f", "dB per source sub-pixel"),
    ("SNR estimated", "snr_estimated_db", ".2f", "dB"),
    ("EVM", "evm_db", ".2f", "dB"),
    ("Clipped samples", "clipped_samples", ",", ""),
)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """One aligned line per figure, and one per cause of lost frames.

    Figures that do not apply (None) are left out.
    """
    width = max(len(label) for label, *_ in _LINES)
    figures = [
        f"{label:{width}}  {_text(report[key], form)} {unit}".rstrip()
        for label, key, form, unit in _LINES
        if report[key] is not None
    ]
    return figures + [f"{'Diagnosis':{width}}  {cause}" for cause in report["diagnosis"]]


def write_results(report: LinkReport, folder: Path, stem: str) -> None:
    """Writes ``STEM-received.png`` if the image is exact, and ``STEM-link.png``, the plot.

    The received image of an earlier run is removed if this one brought none.
    """
    from flowgraphs.link_plot import save_link_plot  # loads matplotlib, which reports do not need

    folder.mkdir(parents=True, exist_ok=True)
    received = folder / f"{stem}-received.png"
    if report.image is None:
        received.unlink(missing_ok=True)
    else:
        write_png(received, report.image)
    save_link_plot(report, folder / f"{stem}-link.png")


def _text(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return format(value, form)
