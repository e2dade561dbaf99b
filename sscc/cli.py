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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sscc import capture_cli, path_options, radio_cli
from sscc.bench_cli import bench
from sscc.errors import InputError
from sscc.help_panels import GroupedOptions
from sscc.options import InputFile, Json, Model, NoHistory, OutputFolder, Seed, Threads
from sscc.output import print_error, print_json, progress_bar
from sscc.profiles_cli import profiles

if TYPE_CHECKING:
    from source_codec import Process

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench, name="bench")
app.add_typer(profiles, name="profiles")


@app.callback()
def _root(context: typer.Context) -> None:
    """Carries images over a noisy, fading radio channel so that every pixel comes back exactly.

    \b
    Example:
      sscc link photo.png --channel rayleigh --doppler 50 --snr 15 --mcs qpsk-1/2
    """
    if context.invoked_subcommand != "train":
        # The codec's own threads share the cores: numpy's BLAS, where the receiver loads it, is to
        # start no more.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@app.command()
def encode(
    images: Annotated[list[Path], InputFile],
    output: OutputFolder = Path(),
    order: Annotated[
        str,
        typer.Option(
            help="Denoising order: halton, raster, random, checkerboard, or auto: a wavefront for "
            "images of up to 64x64 pixels, whatever the schedule and steps, halton for others."
        ),
    ] = "auto",
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
        typer.Option(
            metavar="DIR",
            help="Folder for a PNG per denoising step, as a preview (of a wavefront: 32 in all).",
        ),
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
