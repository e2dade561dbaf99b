"""``sscc bench progressive``: what a stream shows before all of it has come, beside JPEG 2000.

After each denoising step the decoder shows the known pixels and the model's expectation at the
others (without source histories: the parts of a composed image come one after the other; and in
Halton order whatever the size). JPEG 2000 gets the same number of bytes, in two ways, both by
OpenJPEG's own rate control:

``j2k``
    the reversible 5/3 wavelet, the coefficients of its lossless codestream cut at that rate: what
    a lossless, progressive JPEG 2000 file shows after that many bytes.
``j2k_lossy``
    the irreversible 9/7 wavelet, a file of its own for each rate that never becomes lossless: the
    better picture for somebody who wants no exact pixels in the end.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from source_codec import Codec, Order, Process
from sscc.images import Pixels
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

STRIP_SHARES = (0.01, 0.05, 0.10, 0.25, 0.50, 1.00)
"""Shares of all bits at which the strip shows the image."""
_STRIP_SIDE = 320
"""Longer side of a picture of the strip, in pixels."""
_ATTEMPTS = 7


@dataclass(frozen=True)
class Point:
    """What is seen after a step.

    Attributes:
        step: steps done, from 1.
        known: share of the pixels that are known.
        bits: bits of our payload up to here.
        bpsp: the same per sub-pixel of the image.
        psnr_db: of our preview; infinite after the last step.
        j2k_psnr_db: of the reversible JPEG 2000 at no more bits; None if its header does not fit.
        j2k_lossy_psnr_db: of the irreversible one.
    """

    step: int
    known: float
    bits: int
    bpsp: float
    psnr_db: float
    j2k_psnr_db: float | None
    j2k_lossy_psnr_db: float | None


@dataclass(frozen=True)
class Course:
    """An image's way from nothing to exact.

    Attributes:
        points: one per step.
        strip: per share of :data:`STRIP_SHARES`, the step nearest to it: index into ``points``,
            our preview, and the reversible JPEG 2000 picture, or None.
        j2k_lossless_bits: of the whole reversible JPEG 2000 codestream.
        exact: whether the last step gave back the image.
    """

    points: list[Point]
    strip: list[tuple[int, Pixels, Pixels | None]]
    j2k_lossless_bits: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """The figures, without the pictures."""
        return {
            "exact": self.exact,
            "j2k_lossless_bits": self.j2k_lossless_bits,
            "steps": [asdict(point) for point in self.points],
            "strip": [
                {"share": share, "step": self.points[index].step}
                for share, (index, _, _) in zip(STRIP_SHARES, self.strip, strict=True)
            ],
        }


def psnr_db(image: Pixels, truth: Pixels) -> float:
    """Peak signal-to-noise ratio over all sub-pixels; infinite if equal."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def jpeg_2000(image: Pixels, size: int | None, reversible: bool) -> bytes | None:
    """A JPEG 2000 codestream.

    Args:
        image: uint8 (H, W, 3) or (H, W).
        size: bytes at most; None for lossless (``reversible`` only).
        reversible: 5/3 wavelet and reversible colours, else 9/7 and YCbCr.

    Returns:
        The codestream, or None if none so short was found.
    """
    resolutions = min(6, 1 + int(math.log2(min(image.shape[:2]))))

    def coded(ratio: float) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).save(
            stream,
            "JPEG2000",
            no_jp2=True,
            irreversible=not reversible,
            mct=int(image.ndim == 3),
            num_resolutions=resolutions,
            quality_mode="rates",
            quality_layers=[ratio],
        )
        return stream.getvalue()

    if size is None:
        return coded(0)  # all bits of all coefficients
    # The rate control misses its target by some bytes to either side.
    best: bytes | None = None
    lowest, highest = 0.25 * size, 1.1 * size
    for attempt in range(_ATTEMPTS):
        target = 0.998 * size if attempt == 0 else (lowest + highest) / 2
        data = coded(max(1.0, image.size / target))
        if len(data) <= size:
            lowest = target
            best = data if best is None or len(data) > len(best) else best
            if len(data) >= 0.995 * size:
                break
        else:
            highest = target
    return best


def _decoded(data: bytes | None) -> Pixels | None:
    if data is None:
        return None
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def nearest_steps(bits: Sequence[int], shares: Sequence[float]) -> list[int]:
    """For each share the step whose bits so far are nearest to it, by ratio.

    Args:
        bits: bits up to and with each step, rising.
        shares: shares of the last of them.
    """
    logarithms = np.log(np.maximum(bits, 1))
    targets = [math.log(share) + logarithms[-1] for share in shares]
    return [int(np.argmin(np.abs(logarithms - target))) for target in targets]


def measure(image: Pixels, codec: Codec, progress: Progress) -> Course:
    """Encodes an image, and looks at it after each step and at JPEG 2000 at the same size.

    Args:
        image: uint8 (H, W, 3) or (H, W).
        codec: ours.
        progress: called with the fraction done.
    """
    stream = codec.encode(image, Process(Order.HALTON), histories=False)
    progress(0.05)
    totals = np.cumsum(codec.step_bits(stream)).tolist()
    progress(0.15)
    chosen = nearest_steps(totals, STRIP_SHARES)
    lossless = jpeg_2000(image, None, reversible=True)
    assert lossless is not None
    points: list[Point] = []
    pictures: dict[int, tuple[Pixels, Pixels | None]] = {}
    steps = part_of(progress, 0.15, 0.85)
    exact = False
    for index, (preview, known) in enumerate(codec.decode_progressive(stream)):
        shown = cast(Pixels, preview)  # as the image: 8 bits
        size = totals[index] // 8
        fits = len(lossless) <= size
        reversible = _decoded(lossless if fits else jpeg_2000(image, size, reversible=True))
        lossy = _decoded(jpeg_2000(image, size, reversible=False))
        exact = bool(np.array_equal(shown, image))
        points.append(
            Point(
                step=index + 1,
                known=float(known.mean()),
                bits=totals[index],
                bpsp=totals[index] / image.size,
                psnr_db=psnr_db(shown, image),
                j2k_psnr_db=None if reversible is None else psnr_db(reversible, image),
                j2k_lossy_psnr_db=None if lossy is None else psnr_db(lossy, image),
            )
        )
        if index in chosen:
            pictures[index] = shown, reversible
        steps((index + 1) / len(totals))
    strip = [(index, *pictures[index]) for index in chosen]
    return Course(points, strip, 8 * len(lossless), exact)


def write_plot(course: Course, path: Path) -> None:
    """PSNR over bits per sub-pixel; where the image is exact, a mark above the curves."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    curves = (
        ("psnr_db", "ddm (lossless in the end)", "C0", "-o"),
        ("j2k_psnr_db", "JPEG 2000, reversible 5/3", "C1", "-s"),
        ("j2k_lossy_psnr_db", "JPEG 2000, irreversible 9/7", "C2", "--"),
    )
    finite = [
        value
        for name, *_ in curves
        for point in course.points
        if (value := getattr(point, name)) is not None and math.isfinite(value)
    ]
    top = max(finite, default=50.0) + 3
    for name, label, colour, style in curves:
        seen = [(p.bpsp, value) for p in course.points if (value := getattr(p, name)) is not None]
        shown = [(x, y) for x, y in seen if math.isfinite(y)]
        axes.plot(*zip(*shown, strict=True), style, color=colour, markersize=3, label=label)
    sub_pixels = course.points[-1].bits / course.points[-1].bpsp
    marks = [(course.points[-1].bpsp, "C0", course.exact)]
    marks.append((course.j2k_lossless_bits / sub_pixels, "C1", True))
    for bpsp, colour, exact in marks:
        if exact:
            axes.plot([bpsp], [top], "*", color=colour, markersize=11)
            axes.annotate(
                f"exact\n{bpsp:.2f}",
                (bpsp, top),
                xytext=(0, 8),
                textcoords="offset points",
                fontsize=8,
                ha="center",
                va="bottom",
                color=colour,
            )
    axes.set_ylim(top=top + 8)
    axes.set_xlim(0, 1.08 * max(bpsp for bpsp, *_ in marks))
    axes.set_xlabel("bits per sub-pixel so far")
    axes.set_ylabel("PSNR / dB")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def table(course: Course) -> Table:
    """The course for people."""
    from rich.table import Table

    headings = ("step", "known", "bits", "bpsp", "PSNR / dB", "JPEG 2000 5/3", "JPEG 2000 9/7")
    grid = Table()
    for heading in headings:
        grid.add_column(heading, justify="right")
    for point in course.points:
        grid.add_row(
            str(point.step),
            f"{100 * point.known:.1f} %",
            f"{point.bits:,}",
            f"{point.bpsp:.4f}",
            *map(_quality, (point.psnr_db, point.j2k_psnr_db, point.j2k_lossy_psnr_db)),
        )
    return grid


def write_strip(course: Course, path: Path) -> None:
    """Our previews above, JPEG 2000 at the same number of bytes below, with bits and PSNR."""
    shape = course.strip[0][1].shape
    scale = min(1.0, _STRIP_SIDE / max(shape[:2]))
    width, height = (max(1, round(side * scale)) for side in (shape[1], shape[0]))
    cell = max(width, 190)
    font = ImageFont.load_default(13)
    label, gap = 38, 6
    columns = len(course.strip)
    size = (columns * (cell + gap) + gap, 2 * (height + label + gap) + gap)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, (index, ours, theirs) in enumerate(course.strip):
        point = course.points[index]
        share = 100 * point.bits / course.points[-1].bits
        left = gap + column * (cell + gap)
        rows = (
            (f"ddm: {share:.3g} % of its bits", ours, point.psnr_db),
            ("JPEG 2000, reversible", theirs, point.j2k_psnr_db),
        )
        for row, (name, picture, quality) in enumerate(rows):
            top = gap + row * (height + label + gap)
            text = f"{point.bits / 8:,.0f} bytes, {_quality(quality)}"
            draw.multiline_text((left, top), f"{name}\n{text}", "black", font)
            if picture is not None:
                small = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
                canvas.paste(small, (left, top + label))
    canvas.save(path)


def _quality(psnr: float | None) -> str:
    if psnr is None:
        return "too short"
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "exact"
