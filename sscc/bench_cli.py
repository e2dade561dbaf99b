"""The benchmarks: ``sscc bench``. Each is imported when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sscc.errors import InputError
from sscc.options import InputFile, Json, Model, NoHistory, OutputFolder, Seed, Threads
from sscc.output import print_error, print_json, progress_bar

bench = typer.Typer(
    rich_markup_mode=None,
    help="""Benchmarks.

    \b
    Example:
      sscc bench codec photos/ --against png,webp,jxl
    """,
)

Workers = Annotated[
    int, typer.Option("--workers", min=1, metavar="N", help="Processes; affects speed only.")
]
WaveformNames = Annotated[
    list[str] | None,
    typer.Option(
        "--waveform", metavar="NAME", help="Waveform, more than once if wished.  [default: all]"
    ),
]


@bench.command("codec")
def bench_codec(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, readable=True, help="PNG, TIFF and .npy files, or one file."
        ),
    ],
    against: Annotated[
        str, typer.Option("--against", "-a", metavar="LIST", help="Of png, webp, jxl and jxl7.")
    ] = "png,webp,jxl",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a row per image and codec.")
    ] = None,
    no_history: NoHistory = False,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Compares the codec with others on the same images, in memory, in one run.

    The exit status is 1 if any codec did not return every pixel.

    \b
    Example:
      sscc bench codec photos/ --against png,webp,jxl
    """
    from benchmarks.codec import compare, measure, select_baselines, table, write_csv
    from source_codec import Codec

    baselines = select_baselines(against)
    with progress_bar("measuring") as progress:
        codec = Codec.load(model, threads)
        rows, skipped = measure(path, codec, not no_history, baselines, threads, progress)
    for reason in skipped:
        print_error(f"skipped: {reason}")
    if csv is not None:
        write_csv(rows, csv)
    summaries = compare(rows)
    if json:
        print_json({"codecs": summaries})
    else:
        from rich.console import Console

        Console().print(table(summaries))
    if not all(summary["exact"] for summary in summaries.values()):
        raise typer.Exit(1)


@bench.command("progressive")
def bench_progressive(
    image: Annotated[Path, InputFile],
    output: OutputFolder = Path(),
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """PSNR against bits while an image is decoded, beside JPEG 2000 at the same number of bytes.

    Writes progressive.png (the curves) and strip.png (the image at 1, 5, 10, 25, 50 and 100 % of
    the bits, or at the steps nearest to these) into the folder. The exit status is 1 if the last
    step did not give back every pixel.

    \b
    Example:
      sscc bench progressive photo.png -o out/
    """
    from benchmarks.progressive import measure, write_plot, write_strip
    from source_codec import Codec
    from sscc.images import read_single_image

    pixels = read_single_image(image)
    output.mkdir(parents=True, exist_ok=True)
    with progress_bar("measuring") as progress:
        course = measure(pixels, Codec.load(model, threads), progress)
    write_plot(course, output / "progressive.png")
    write_strip(course, output / "strip.png")
    if json:
        print_json(course.to_json())
    else:
        from rich.console import Console

        from benchmarks.progressive import table

        Console().print(table(course))
    if not course.exact:
        raise typer.Exit(1)


@bench.command("ablation")
def bench_ablation(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, readable=True, help="PNG, TIFF and .npy files, or one file."
        ),
    ],
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images at most, spread over the folder.")
    ] = 6,
    side: Annotated[
        int, typer.Option(min=1, metavar="PIXELS", help="Side of the centre crops.")
    ] = 256,
    output: OutputFolder = Path(),
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """What order, schedule, steps, adaptation, temperatures and histories are each worth.

    Writes ablation.csv, ablation.md and ablation.png into the folder.

    \b
    Example:
      sscc bench ablation photos/ --images 8 -o out/
    """
    from benchmarks.ablation import crops_of, measure, table, variants, write_results
    from source_codec.model import Model as CodecModel

    crops = crops_of(path, images, side)
    with progress_bar("measuring") as progress:
        rows = measure(crops, CodecModel.load(model), variants(), threads, progress)
    write_results(rows, output)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        from rich.console import Console

        Console().print(table(rows))


@bench.command("schedule")
def bench_schedule(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, readable=True, help="PNG, TIFF and .npy files, or one file."
        ),
    ],
    images: Annotated[
        int, typer.Option(min=2, metavar="N", help="Images at most, spread over the folder.")
    ] = 12,
    side: Annotated[
        int, typer.Option(min=1, metavar="PIXELS", help="Side of the centre crops.")
    ] = 128,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """What the best mask schedule would gain over the cosine.

    For several numbers of steps; the best schedule is found by dynamic programming on one half of
    the images and judged on the other.

    \b
    Example:
      sscc bench schedule photos/ --images 12
    """
    from benchmarks.ablation import crops_of
    from benchmarks.schedule import measure, table
    from source_codec.model import Model as CodecModel

    crops = crops_of(path, images, side)
    with progress_bar("measuring") as progress:
        rows = measure(crops, CodecModel.load(model), threads, progress)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        from rich.console import Console

        Console().print(table(rows))


@bench.command("ldpc")
def bench_ldpc(
    bler: Annotated[
        bool, typer.Option("--bler", help="Measure block error rates instead of throughput.")
    ] = False,
    words: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Code words per point.  [default: 256, with --bler 4000]"
        ),
    ] = None,
    peer_words: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of them for Sionna.  [default: 8, with --bler 50]"),
    ] = None,
    seed: Seed = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """Throughput of the LDPC decoder on one core, or its block error rate, beside Sionna's.

    With --bler, writes ldpc.csv and ldpc.png into the folder: QPSK on AWGN, with 95 % intervals and
    the normal approximation. Sionna takes part if it is installed.

    \b
    Example:
      sscc bench ldpc
      sscc bench ldpc --bler -o out/
    """
    from rich.console import Console

    from benchmarks.ldpc import (
        bler_table,
        measure_bler,
        measure_throughput,
        throughput_table,
        write_bler,
    )

    with progress_bar("measuring") as progress:
        if bler:
            rates = measure_bler(words or 4000, peer_words or 50, seed, progress)
            write_bler(rates, output)
            result, grid = [asdict(row) for row in rates], bler_table(rates)
        else:
            speeds = measure_throughput(words or 256, peer_words or 8, seed, progress)
            result, grid = [asdict(row) for row in speeds], throughput_table(speeds)
    if json:
        print_json({"rows": result})
    else:
        Console().print(grid)


@bench.command("channels")
def bench_channels(
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="Frames per channel.")] = 200,
    channel: Annotated[
        str, typer.Option(metavar="TEXT", help="Only channels whose names contain this.")
    ] = "",
    seed: Seed = 1,
    workers: Workers = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """Frames sent and received over named channels: offsets, radios' faults, fading, multipath.

    Writes channels.csv and channels.md into the folder.

    \b
    Example:
      sscc bench channels --channel TDL --frames 50 -o out/
    """
    from rich.console import Console

    from benchmarks.channels import cases, measure, table, write_results
    from benchmarks.parallel import Tasks

    chosen = [case for case in cases() if channel.lower() in case.name.lower()]
    if not chosen:
        raise _no_channel(channel, [case.name for case in cases()])
    with progress_bar("measuring") as progress, Tasks(workers) as tasks:
        rows = measure(chosen, frames, seed, tasks, progress)
    write_results(rows, output)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


def _no_channel(asked: str, names: Sequence[str]) -> InputError:
    return InputError(
        f"no channel of the name {asked!r}: there are {', '.join(dict.fromkeys(names))}"
    )


def _chosen_waveforms(asked: list[str] | None, known: Sequence[str]) -> list[str]:
    """The names asked for, all known ones by default."""
    for name in asked or ():
        if name not in known:
            raise InputError(f"unknown waveform {name!r}; choose of {', '.join(known)}")
    return list(asked or known)


@bench.command("sync")
def bench_sync(
    waveform: WaveformNames = None,
    frames: Annotated[
        int, typer.Option(min=1, metavar="N", help="Frames per condition, and back to back.")
    ] = 1000,
    noise_samples: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Samples of noise for the false alarms; 0 leaves them out."
        ),
    ] = 100_000_000,
    seed: Seed = 1,
    workers: Workers = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """Frames lost by synchronization, frames back to back, and false alarms in noise.

    The frames are the longest ones of QPSK 1/2, at the Es/N0 where one payload in a hundred is lost
    with perfect synchronization: start, carrier and clock known. That is measured first, then the
    frames that are lost under each condition (carrier, clock, delay, level, DC, IQ imbalance, 8-bit
    converter) and under all together, with 95 % intervals and the stage that lost them.

    Writes sync.csv, false_alarms.csv and sync.md into the folder.

    \b
    Example:
      sscc bench sync --waveform ofdm --frames 100 --noise-samples 1000000 -o out/
    """
    from rich.console import Console

    from benchmarks.parallel import Tasks
    from benchmarks.sync import SYNCHRONIZED, false_alarm_table, loss_table, measure, write_results

    names = _chosen_waveforms(waveform, SYNCHRONIZED)
    with progress_bar("measuring") as progress, Tasks(workers) as tasks:
        losses, alarms = measure(names, frames, noise_samples, seed, tasks, progress)
    write_results(losses, alarms, output)
    if json:
        print_json(
            {
                "rows": [asdict(row) for row in losses],
                "false_alarms": [asdict(row) for row in alarms],
            }
        )
    else:
        Console().print(loss_table(losses))
        if alarms:
            Console().print(false_alarm_table(alarms))


@bench.command("estimation")
def bench_estimation(
    draws: Annotated[
        int, typer.Option(min=2, metavar="N", help="Draws of fading and noise per channel.")
    ] = 60,
    channel: Annotated[
        str, typer.Option(metavar="TEXT", help="Only channels whose names contain this.")
    ] = "",
    waveform: WaveformNames = None,
    seed: Seed = 1,
    workers: Workers = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """The dB that estimating the channel costs against knowing it, at a block error rate of 0.1.

    QPSK 1/2, one transport block in 4 frames over fading channels. Writes estimation.csv and
    estimation.md into the folder.

    \b
    Example:
      sscc bench estimation --channel TDL --draws 10 -o out/
    """
    from rich.console import Console

    from benchmarks.estimation import cases, measure, table, write_results
    from benchmarks.parallel import Tasks
    from flowgraphs.link import WAVEFORMS

    names = _chosen_waveforms(waveform, list(WAVEFORMS))
    offered = [case for case in cases() if case.waveform in names]
    chosen = [case for case in offered if channel.lower() in case.name.lower()]
    if not chosen:
        raise _no_channel(channel, [case.name for case in offered])
    with progress_bar("measuring") as progress, Tasks(workers) as tasks:
        rows = measure(chosen, draws, seed, tasks, progress)
    write_results(rows, output)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


@bench.command("spectrum")
def bench_spectrum(
    waveform: WaveformNames = None,
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="Frames to send.")] = 20,
    seed: Seed = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """Power spectral density, occupied bandwidth and peaks of the waveforms.

    Writes spectrum.csv and spectrum.png into the folder.

    \b
    Example:
      sscc bench spectrum -o out/
    """
    from rich.console import Console

    from benchmarks.spectrum import SHAPED, measure, table, write_results

    names = _chosen_waveforms(waveform, SHAPED)
    with progress_bar("measuring") as progress:
        rows, curves = measure(names, frames, seed, progress)
    write_results(rows, curves, output)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


@bench.command("mcs")
def bench_mcs(
    blocks: Annotated[
        int, typer.Option(min=10, metavar="N", help="Transport blocks per SNR.")
    ] = 200,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """The SNR at which each modulation-and-coding scheme loses one transport block in ten.

    \b
    Example:
      sscc bench mcs --blocks 100
    """
    from rich.console import Console

    from benchmarks.mcs import measure, table
    from phy.mcs import MCS_TABLE

    with progress_bar("measuring") as progress:
        rows = measure(list(MCS_TABLE.values()), blocks, seed, progress)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


@bench.command("harq")
def bench_harq(
    mcs: Annotated[
        str, typer.Option(metavar="NAME", help="Modulation and coding of a round.")
    ] = "16qam-3/4",
    blocks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Transport blocks per channel and SNR.")
    ] = 400,
    messages: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of the whole receiver, at two SNRs; 0 leaves it out."
        ),
    ] = 50,
    seed: Seed = 1,
    workers: Workers = 1,
    output: OutputFolder = Path(),
    json: Json = False,
) -> None:
    """Throughput against SNR with retransmission: new redundancy, repetition, no combining.

    Up to four rounds over AWGN and over Rayleigh block fading, with 95 % intervals, beside what
    ideal codes would reach and the capacity. Writes harq.csv, harq.md and harq.png into the folder.

    \b
    Example:
      sscc bench harq --mcs qpsk-5/6 -o out/
    """
    from rich.console import Console

    from benchmarks.harq import measure, table, write_results
    from benchmarks.parallel import Tasks
    from phy.mcs import get_mcs

    try:
        scheme = get_mcs(mcs)
    except ValueError as error:
        raise InputError(str(error)) from None
    with progress_bar("measuring") as progress, Tasks(workers) as tasks:
        rows = measure(scheme, blocks, messages, seed, tasks, progress)
    write_results(rows, output)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


@bench.command("receiver")
def bench_receiver(
    waveform: WaveformNames = None,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Samples a second through the whole receiver on one core, and the share of each stage.

    \b
    Example:
      sscc bench receiver --waveform single-carrier
    """
    from rich.console import Console

    from benchmarks.receiver import measure, table
    from flowgraphs.link import WAVEFORMS

    names = _chosen_waveforms(waveform, list(WAVEFORMS))
    with progress_bar("measuring") as progress:
        rows = measure(names, seed, progress)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))


@bench.command("zmq")
def bench_zmq(
    tags: Annotated[
        str, typer.Option(metavar="CHOICE", help="Messages with tag headers: yes, no or both.")
    ] = "both",
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Samples a second through ZeroMQ, and the whole rx from ZeroMQ against the receiver alone.

    \b
    Example:
      sscc bench zmq --tags no
    """
    from rich.console import Console

    from benchmarks.zmq import measure, table

    choices = {"yes": [True], "no": [False], "both": [False, True]}
    if tags not in choices:
        raise InputError(f"--tags is yes, no or both, not {tags!r}")
    with progress_bar("measuring") as progress:
        rows = measure(choices[tags], seed, progress)
    if json:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        Console().print(table(rows))
