"""The command ``sscc``.

Exit status: 0, did what was asked, exactly; 1, ran, but an image is not exact or a check failed;
2, bad arguments or input, with the reason in one line.

The commands import what they need when they run: torch and numba take their time to load, and
``sscc --help`` should not wait for them.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sscc import capture_cli, path_options, radio_cli
from sscc.errors import InputError
from sscc.help_panels import GroupedOptions
from sscc.options import InputFile, Json, Model, NoHistory, OutputFolder, Threads
from sscc.output import print_error, print_json, progress_bar

if TYPE_CHECKING:
    from source_codec import Process

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(
    rich_markup_mode=None,
    help="""Benchmarks.

    \b
    Example:
      sscc bench codec photos/ --against png,webp,jxl
    """,
)
app.add_typer(bench, name="bench")
profiles = typer.Typer(
    rich_markup_mode=None,
    help="""Hardware profiles: what radios can do, with a source for every number.

    \b
    Example:
      sscc profiles list
    """,
)
app.add_typer(profiles, name="profiles")


@app.callback()
def _root(context: typer.Context) -> None:
    """Carries images over a noisy, fading radio channel so that every pixel comes back exactly.

    \b
    Example:
      sscc link photo.png --channel rayleigh --doppler 50 --snr 15 --mcs qpsk-1/2
    """
    if context.invoked_subcommand != "train":
        # The codec's own threads share the cores: numpy's BLAS, once loaded, is to start no more.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


Seed = Annotated[int, typer.Option(min=0, help="Fixes every random draw.")]
Workers = Annotated[
    int, typer.Option("--workers", min=1, metavar="N", help="Processes; affects speed only.")
]
WaveformNames = Annotated[
    list[str] | None,
    typer.Option(
        "--waveform", metavar="NAME", help="Waveform, more than once if wished.  [default: all]"
    ),
]


@app.command()
def encode(
    images: Annotated[list[Path], InputFile],
    output: OutputFolder = Path(),
    order: Annotated[
        str, typer.Option(help="Denoising order: halton, raster, random or checkerboard.")
    ] = "halton",
    schedule: Annotated[str, typer.Option(help="Mask schedule: cosine or linear.")] = "cosine",
    steps: Annotated[int, typer.Option(min=1, max=255, help="Denoising steps.")] = 32,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Do not let the model adapt to the image.")
    ] = False,
    no_history: NoHistory = False,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Encodes images to .ddm files, losslessly.

    Takes gray and RGB images of up to 16 bits, with alpha, palette, ICC profile and Exif, and .npy
    stacks of 8-bit images of shape (N, H, W, 3) or (N, H, W), which become NAME-0000.ddm and so on.

    \b
    Example:
      sscc encode photo.png scan.tif -o encoded/
    """
    from source_codec import Codec
    from sscc.encoding import encode_files, mean_bpsp

    with progress_bar("encoding") as progress:
        process = _process(order, schedule, steps, not fixed)
        codec = Codec.load(model, threads)
        files = encode_files(images, output, codec, process, not no_history, progress)
    if json:
        print_json({"files": [f.to_json() for f in files], "bpsp": mean_bpsp(files)})
        return
    for file in files:
        print(f"{output / file.name}  {file.bytes:,} bytes  {file.bpsp:.3f} bpsp")
    if len(files) > 1:
        print(f"{len(files)} images  {mean_bpsp(files):.3f} bpsp")


def _process(order: str, schedule: str, steps: int, adaptive: bool) -> Process:
    from source_codec import Order, Process, Schedule

    try:
        return Process(Order(order), Schedule(schedule), steps, adaptive)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def decode(
    files: Annotated[list[Path], InputFile],
    output: OutputFolder = Path(),
    progressive: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for a PNG per denoising step, as a preview."),
    ] = None,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Decodes .ddm files to PNG; every image is proved exact by the hash in its file.

    A damaged file gives no image: the reason is printed, and the exit status is 2.

    \b
    Example:
      sscc decode encoded/photo.ddm -o decoded/ --progressive steps/
    """
    from source_codec import Codec
    from sscc.decoding import decode_files

    with progress_bar("decoding") as progress:
        codec = Codec.load(model, threads)
        reports = decode_files(files, output, progressive, codec, progress)
    for report in reports:
        if report.error:
            print_error(f"{report.source}: {report.error}")
        elif not json:
            print(f"{output / str(report.name)}  exact  {report.seconds:.2f} s")
    if json:
        print_json({"files": [report.to_json() for report in reports]})
    if any(report.error for report in reports):
        raise typer.Exit(2)


@app.command()
def info(
    file: Annotated[Path, InputFile],
    header_only: Annotated[
        bool, typer.Option("--header-only", help="Do not decode: without bits per step.")
    ] = False,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Shows what a .ddm file says of itself, and the bits that each denoising step took.

    \b
    Example:
      sscc info encoded/photo.ddm
    """
    from source_codec import Codec, CorruptStream
    from sscc.description import describe, description_lines

    with progress_bar("reading"):
        try:
            codec = None if header_only else Codec.load(model, threads)
            description = describe(file, codec)
        except CorruptStream as error:
            raise InputError(f"{file}: {error}") from error
    if json:
        print_json(description)
    else:
        print("\n".join(description_lines(description)))


@app.command(cls=GroupedOptions)
def link(
    image: Annotated[Path, InputFile],
    channel: path_options.Channel = "rayleigh",
    snr: path_options.Snr = 15.0,
    mcs: Annotated[
        str,
        typer.Option(
            metavar="NAME|auto",
            help="Modulation and code rate, such as 16qam-3/4; auto takes the fastest that the "
            "channel's statistics allow.",
        ),
    ] = "qpsk-1/2",
    seed: Seed = 1,
    doppler: path_options.Doppler = 50.0,
    delay_spread: path_options.DelaySpread = "100ns",
    symbol_rate: Annotated[
        float, typer.Option(metavar="HZ", min=1, help="Symbols a second.")
    ] = 1e6,
    waveform: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="symbols (one sample a symbol, ideally timed); single-carrier (root-raised-cosine "
            "pulses); ofdm (128 carriers with a cyclic prefix). The last two have two samples a "
            "symbol, and the receiver synchronizes them.",
        ),
    ] = "symbols",
    cfo: path_options.CarrierOffset = 0.0,
    carrier_drift: path_options.CarrierDrift = 0.0,
    clock_offset: path_options.ClockOffset = 0.0,
    phase_noise: path_options.PhaseNoise = None,
    iq_imbalance: path_options.IqImbalance = None,
    dc: path_options.DcOffset = None,
    amplifier_backoff: path_options.AmplifierBackoff = None,
    level: path_options.Level = 0.0,
    agc: path_options.Agc = None,
    adc_bits: path_options.AdcBits = None,
    clipping_level: path_options.ClippingLevel = 15.0,
    block_length: path_options.BlockLength = 1000,
    csi: Annotated[
        str,
        typer.Option(
            help="What the receiver knows of the channel: pilots (estimates by a Wiener filter), "
            "least-squares (estimates, interpolated) or perfect."
        ),
    ] = "pilots",
    depth: Annotated[
        int, typer.Option(metavar="N", min=1, help="Frames that the interleaver spans.")
    ] = 16,
    harq: Annotated[
        int,
        typer.Option(
            metavar="ROUNDS",
            min=0,
            help="Retransmit what is missing, up to so many rounds in all, with feedback over a "
            "return path of the same mean SNR; 0 sends once.",
        ),
    ] = 0,
    profile: path_options.TwinProfile = "simulated",
    frequency: path_options.TwinFrequency = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for the received image and a plot."
        ),
    ] = None,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Sends an image through the whole chain over a simulated channel, and reports.

    The exit status is 0 only if every pixel came back exactly. Otherwise it is 1, the report names
    the stage that failed, and no image is written. With --output a plot of the transmission is
    written in any case.

    In the JSON psnr_db is null: infinite if exact, undefined if no image.

    \b
    Example:
      sscc link photo.png --channel rayleigh --doppler 50 --snr 15 --mcs qpsk-1/2 --seed 1 -o out/
      sscc link photo.png --channel rayleigh-block --snr 8 --mcs 16qam-3/4 --depth 4 --harq 6
      sscc link photo.png --waveform ofdm --cfo 180000 --clock-offset 30 --snr 15
      sscc link photo.png --waveform ofdm --channel tdl-c --delay-spread 300ns --adc-bits 8
      sscc link photo.png --waveform single-carrier --channel awgn --profile pluto
    """
    from flowgraphs.link import LinkConfig, run_link
    from phy.message import MessageLengthError
    from source_codec import Codec
    from sscc.images import read_single_image
    from sscc.link_report import report_lines, write_results

    pixels = read_single_image(image)
    try:
        config = LinkConfig(
            channel=channel,
            es_n0_db=snr,
            mcs=mcs,
            seed=seed,
            doppler_hz=doppler,
            delay_spread_s=delay_spread,
            symbol_rate=symbol_rate,
            waveform=waveform,
            block_length=block_length,
            csi=csi,
            depth=depth,
            harq=harq,
            profile=profile,
            frequency_hz=frequency,
            impairments=path_options.impairments_of(
                cfo,
                carrier_drift,
                clock_offset,
                phase_noise,
                iq_imbalance,
                dc,
                amplifier_backoff,
                level,
                agc,
                adc_bits,
                clipping_level,
            ),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with progress_bar("link") as progress:
        try:
            report = run_link(pixels, config, Codec.load(model, threads), progress)
        except MessageLengthError as error:
            raise InputError(f"{image}: {error}") from error
    if output is not None:
        write_results(report, output, image.stem)
    if json:
        print_json(report.to_json())
    else:
        print("\n".join(report_lines(report.to_json())))
    if not report.exact:
        raise typer.Exit(1)


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
        # Loading torch is no part of coding an image: it is done before the first one.
        codec = Codec.load(model, threads, int8_from=0)
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


@profiles.command("list")
def profiles_list(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/hardware.md.")
    ] = False,
    json: Json = False,
) -> None:
    """Lists the bundled profiles.

    \b
    Example:
      sscc profiles list
    """
    from hw_profiles import load_profile, profile_names
    from sscc import hardware

    loaded = [load_profile(name) for name in profile_names()]
    if json:
        print_json({"profiles": [hardware.to_json(profile) for profile in loaded]})
    elif markdown:
        print(hardware.markdown(loaded))
    else:
        from rich.console import Console

        Console().print(hardware.table(loaded))


@profiles.command("show")
def profiles_show(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", show_default=False, help="Profile, or its file.")
    ],
    json: Json = False,
) -> None:
    """Shows all that a profile says, and where it has its numbers from.

    \b
    Example:
      sscc profiles show pluto
    """
    from hw_profiles import load_profile
    from sscc import hardware

    profile = load_profile(name)
    if json:
        print_json(hardware.to_json(profile))
    else:
        print("\n".join(hardware.description_lines(profile)))


@profiles.command("check")
def profiles_check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE]...", show_default=False, help="Profiles; all bundled ones if none."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Checks profiles: every key known, with its unit, in its range, and with a source.

    The exit status is 1 if any of them is wrong; the reason is printed.

    \b
    Example:
      sscc profiles check my_radio.toml
    """
    from sscc import hardware

    results = hardware.checked(names or [])
    if json:
        print_json({"profiles": results})
    else:
        for result in results:
            print(f"{result['name']}: {'valid' if result['valid'] else result['reason']}")
    if not all(result["valid"] for result in results):
        raise typer.Exit(1)


@app.command()
def train(
    config: Annotated[Path, InputFile],
    run: Annotated[
        Path,
        typer.Option(
            "--run", "-r", metavar="DIR", help="Folder of the run: checkpoint, to go on, and log."
        ),
    ] = Path("run"),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The integer model.  [default: model.safetensors in the run's folder]",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto (CUDA where there is a device), cpu or cuda.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Trains a model on images of your own, and exports it calibrated; see docs/training.md.

    Ctrl-C saves the state; the same command goes on from there. The folder of the run gets
    checkpoint.pt, log.csv, loss.png and at the end model.safetensors. The exit status is 1 if the
    run was interrupted. On several GPUs or machines, start it with torchrun.

    \b
    Example:
      sscc train my_model.toml --run runs/my_model -o my_model.safetensors
      torchrun --nproc-per-node 4 -m sscc train my_model.toml -r runs/my_model
    """
    from sscc.training_run import train_model

    report = train_model(config, run, output, device)
    if report is None:
        return
    if json:
        print_json(report.to_json())
    else:
        print("\n".join(report.lines()))
    if not report.finished:
        print_error(
            f"stopped after {report.minutes:.1f} minutes of training, state saved in {run}; "
            "the same command goes on from there"
        )
        raise typer.Exit(1)


radio_cli.register(app)
capture_cli.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; every foreseen error is one line on stderr."""
    # Importing allocates many objects and frees few. Looking for garbage among them takes time: in
    # between, and most of all at exit.
    gc.set_threshold(50_000)
    status = run(arguments)
    gc.freeze()
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    try:
        status = app(arguments, prog_name="sscc", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "sscc")
        print_error(f"{error.format_message()} (see {command} --help)")
    except InputError as error:
        print_error(str(error))
    except OSError as error:
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        if not isinstance(error, _own_errors()):
            raise
        print_error(str(error))
    return 2


def _own_errors() -> tuple[type[Exception], ...]:
    """Errors that our libraries raise on purpose; imported only when something was raised."""
    from hw_profiles.profile import ProfileError
    from phy.errors import FrameError
    from source_codec.errors import CodecError

    return CodecError, FrameError, ProfileError
