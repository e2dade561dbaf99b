"""A picture of one transmission: the image, the fading, and what the receiver made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from flowgraphs.link import LinkReport


def save_link_plot(report: LinkReport, path: Path) -> None:
    """Writes a PNG: received image beside channel gain and estimated SNR over time.

    The SNR marks are the receiver's own estimates, one per frame; frames whose header was lost are
    marked on the time axis.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    left.set_axis_off()
    if report.image is None:
        left.text(0.5, 0.5, f"no image\nfailed stage: {report.stage_failed}", ha="center")
        left.set_title("Received")
    else:
        left.imshow(report.image, cmap="gray", vmin=0, vmax=255)
        left.set_title(f"Received, every pixel exact\n({report.bpsp:.2f} bits per sub-pixel)")

    time = np.arange(len(report.fading_db)) * report.fading_step / report.sample_rate
    right.plot(
        time, report.es_n0_db + report.fading_db, color="0.6", lw=0.8,
        label=r"true $E_s|h|^2/N_0$",
    )  # fmt: skip
    read = [f for f in report.frames if f.header_ok]
    lost = [f for f in report.frames if not f.header_ok]
    right.plot(
        [f.sample_index / report.sample_rate for f in read],
        [f.snr_db for f in read],
        ".",
        ms=4,
        color="C0",
        label=f"receiver's estimate, {len(read)} frames",
    )
    if lost:
        right.plot(
            [f.sample_index / report.sample_rate for f in lost],
            [f.snr_db for f in lost],
            "x",
            color="C3",
            label=f"header lost, {len(lost)} frames",
        )
    right.set_xlabel("time (s)")
    right.set_ylabel("SNR (dB)")
    right.set_ylim(report.es_n0_db - 40, report.es_n0_db + 12)
    right.grid(alpha=0.3)
    right.legend(loc="lower right", fontsize="small")
    right.set_title(
        f"{report.channel_uses:,} symbols, {report.blocks} blocks, "
        f"{report.block_errors} block errors"
    )
    figure.savefig(path, dpi=110)
