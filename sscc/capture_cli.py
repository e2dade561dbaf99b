"""The commands for captures: ``capture`` and ``replay``.

Registered by :mod:`sscc.cli`. Progress is told on stderr; the report is on stdout.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sscc import radio_options
from sscc.errors import InputError
from sscc.options import Json, Model, OutputFolder, Threads
from sscc.output import Progress, live_line, print_error, print_json
from sscc.radio_cli import image_line, opened, print_losses, saver
from sscc.radio_options import radio_request

if TYPE_CHECKING:
    from flowgraphs.captures.capture import CaptureReport
    from flowgraphs.captures.recording import Recording
    from flowgraphs.captures.replay import Verification
    from flowgraphs.captures.writer import RecordingConfig, RecordingWriter
    from flowgraphs.receive import ReceiveConfig, ReceivedImage, ReceiveReport
    from flowgraphs.stream import SampleSource


def register(app: typer.Typer) -> None:
    """Adds the commands to the program's."""
    app.command()(capture)
    app.command()(replay)


def capture(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="file:PATH, sigmf:PATH, zmq+pull://HOST:PORT, zmq+sub:// or zmq+req://, or a "
            "radio, soapy:driver=NAME or loopback:.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="NAME", help="Makes NAME.sigmf-meta and NAME.sigmf-data."
        ),
    ],
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="NAME|FILE",
            help="Hardware profile: type, full scale, limits.",
        ),
    ] = None,
    sample_type: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="TYPE", help="cf32, cs16, cs8 or cu8.  [default: the profile's, cf32]"
        ),
    ] = None,
    amplitude: Annotated[
        float, typer.Option(metavar="A", help="Amplitude of I or Q that is full scale of the type.")
    ] = 1.0,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="Samples a second.  [default: the source's, the profile's, or 1e6 symbols a "
            "second]",
        ),
    ] = None,
    frequency: Annotated[
        float | None, typer.Option(metavar="HZ", help="Centre frequency, for the metadata.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Hardware.  [default: the profile's]")
    ] = None,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the recording is.")
    ] = None,
    waveform: Annotated[
        str, typer.Option(metavar="NAME", help="single-carrier, ofdm, or symbols.")
    ] = "single-carrier",
    gain: radio_options.Gain = None,
    bandwidth: radio_options.Bandwidth = None,
    antenna: radio_options.Antenna = None,
    radio_channel: radio_options.RadioChannel = 0,
    record_only: Annotated[
        bool, typer.Option("--record-only", help="No receiver beside, and so no annotations.")
    ] = False,
    duration: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds of samples to record.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="S", min=0, help="Silence after which to end.  [default: none, or the URI's]"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Records a source of samples in the SigMF format; a receiver beside it annotates the frames.

    Ends with the source, after --duration, after --timeout seconds without a sample, or on Ctrl-C
    or a terminate signal; the metadata are complete in every case. Nothing is overwritten. Values
    beyond full scale are clipped and counted. The exit status is 1 if samples are known to be lost,
    or none came. docs/captures.md describes the keys of the metadata.

    \b
    Example:
      sscc capture --from zmq+pull://127.0.0.1:5555 -o monday --type cs16 --amplitude 4
      sscc capture --from file:samples.cf32 -o monday --profile rtl-sdr-v3 --frequency 868e6
      sscc capture --from soapy:driver=rtlsdr -o monday --profile rtl-sdr-v3 --frequency 868e6
    """
    from flowgraphs.captures.capture import capture as record
    from flowgraphs.captures.sample_type import CaptureError
    from flowgraphs.captures.writer import RecordingWriter
    from flowgraphs.endpoints import is_radio, open_source
    from flowgraphs.path import samples_per_symbol
    from flowgraphs.supervision import stop_on_signals

    request = None
    if is_radio(source):
        try:
            per_symbol = samples_per_symbol(waveform)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        rate = rate or _default_rate(profile) or 1e6 * per_symbol
        request = radio_request(
            source, "rx", waveform, rate / per_symbol, profile, frequency, gain, bandwidth,
            antenna, radio_channel,
        )  # fmt: skip
    with (
        stop_on_signals() as stop,
        opened(lambda uri: open_source(uri, request), source, timeout) as samples,
        live_line() as show,
    ):
        try:
            config = replace(
                _recording_config(samples, profile, sample_type, rate, frequency),
                amplitude=amplitude,
                description=description,
            )
            if hardware is not None:
                config = replace(config, hardware=hardware)
            if not record_only:
                config = _with_receiver(config, waveform)
            receiver = _receiver(config)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        most = None
        if duration is not None:
            if config.sample_rate is None:
                raise typer.BadParameter("--duration needs a --rate")
            most = round(duration * config.sample_rate)
        try:
            writer = RecordingWriter(output, config)
        except CaptureError as error:
            raise InputError(str(error)) from error
        show(f"recording {samples.address} to {writer.paths.data}", True)

        def observe(report: CaptureReport, image: ReceivedImage | None) -> None:
            if image is not None:
                show(_message_line(image), True)
            show(_capture_line(report), False)

        report = record(samples, writer, receiver, stop, most, observe)
    if report.failure:
        print_error(report.failure)
    if report.clipped_samples:
        print_error(
            f"{report.clipped_samples:,} of {report.samples:,} samples clipped at an amplitude of "
            f"{amplitude:g}: choose a greater --amplitude, or less gain"
        )
    if json:
        print_json(
            _capture_json(report, writer, config)
            | {"source": asdict(samples.status), "interrupted": stop()}
        )
    else:
        print(f"{writer.paths.meta}  {_capture_line(report)}")
        print_losses(samples)
    if report.failure or not report.samples or not samples.status.lossless:
        raise typer.Exit(1)


def _default_rate(profile: str | None) -> float | None:
    """Samples a second of a profile where nothing is said of them."""
    from hw_profiles.profile import load_profile

    return None if profile is None else load_profile(profile).sample_rate.default_hz


def _recording_config(
    source: SampleSource,
    profile_name: str | None,
    sample_type: str | None,
    rate: float | None,
    frequency: float | None,
) -> RecordingConfig:
    """What the options say of the samples, within the limits of the profile."""
    from flowgraphs.captures.address import native_format
    from flowgraphs.captures.recording import RecordingSource
    from flowgraphs.captures.writer import RecordingConfig
    from hw_profiles.limits import DirectionSettings, check_settings
    from hw_profiles.profile import load_profile

    profile = None if profile_name is None else load_profile(profile_name)
    if rate is None and isinstance(source, RecordingSource):
        rate = source.metadata.sample_rate
    if rate is None and profile is not None:
        rate = profile.sample_rate.default_hz
    native = native_format(sample_type, profile)
    if profile is not None and profile.rx is not None and rate is not None:
        tuned = profile.rx.frequency[0].min_hz if frequency is None else frequency
        check_settings(profile, rx=DirectionSettings(rate, tuned))
    return RecordingConfig(
        native=native,
        sample_rate=rate,
        frequency_hz=frequency,
        hardware=None if profile is None else profile.description,
        profile=None if profile is None else profile.name,
    )


def _with_receiver(config: RecordingConfig, waveform: str) -> RecordingConfig:
    """The recording with a receiver beside it."""
    from flowgraphs.link import WAVEFORMS

    if waveform not in WAVEFORMS:
        raise ValueError(f"unknown waveform {waveform!r}; one of {', '.join(WAVEFORMS)}")
    samples_per_symbol = WAVEFORMS[waveform].samples_per_symbol
    rate = 1e6 * samples_per_symbol if config.sample_rate is None else config.sample_rate
    return replace(
        config, sample_rate=rate, waveform=waveform, symbol_rate=rate / samples_per_symbol
    )


def _receiver(config: RecordingConfig) -> ReceiveConfig | None:
    """The receiver beside the recording, if there is one."""
    from flowgraphs.receive import ReceiveConfig

    if config.waveform is None or config.symbol_rate is None:
        return None
    full_scale = config.sample_type.converter_full_scale
    return ReceiveConfig(config.waveform, config.symbol_rate, full_scale=full_scale)


def _capture_line(report: CaptureReport) -> str:
    text = f"{report.samples:,} samples, {report.clipped_samples:,} clipped"
    if report.reception is not None:
        frames = report.reception.statistics.frames_detected
        text += f", {frames} frames, {len(report.reception.images)} messages"
    return text


def _message_line(image: ReceivedImage) -> str:
    """A message that nobody decodes."""
    if image.exact:
        return f"message {image.message_id} whole  ({image.mcs}, {image.snr_db:.1f} dB)"
    return image_line(image)


def _capture_json(
    report: CaptureReport, writer: RecordingWriter, config: RecordingConfig
) -> dict[str, Any]:
    reception: dict[str, Any] = {"images": [], "frames": [], "frames_omitted": 0, "receiver": None}
    if report.reception is not None:
        reception = report.reception.to_json()
    recording = asdict(report) | {
        "meta": str(writer.paths.meta),
        "data": str(writer.paths.data),
        "type": config.sample_type.name,
        "sample_rate": config.sample_rate,
        "sha512": writer.sha512,
    }
    del recording["reception"]
    return reception | {"recording": recording}


def replay(
    path: Annotated[
        Path,
        typer.Argument(metavar="NAME", help="Recording, .sigmf archive, or with --type any file."),
    ],
    output: OutputFolder = Path(),
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the annotations, bit for bit.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the hash of the data is wrong.")
    ] = False,
    sample_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Take the file as raw samples: cf32, cs16, cs8, cu8, or any datatype of SigMF.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Samples a second.  [default: the recording's]"),
    ] = None,
    waveform: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="single-carrier, ofdm, or symbols.  [default: the recording's, single-carrier]",
        ),
    ] = None,
    channel: Annotated[
        int, typer.Option(metavar="N", min=0, help="Which of the recording's channels.")
    ] = 0,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Sends a recording through the receiver, and writes the exact images as PNG files, as rx does.

    Reads recordings of this and other programs. The data must have the hash that the metadata say.
    With --verify the exit status is 1 if frames, payloads or estimates are not those that the
    receiver beside the recording found; without it, 1 if an image was lost, or none came.

    \b
    Example:
      sscc replay monday.sigmf-meta --verify -o received/
      sscc replay rtl.bin --type cu8 --rate 2e6 --waveform ofdm -o received/
    """
    from flowgraphs.captures.replay import receive_config
    from flowgraphs.captures.replay import replay as play
    from flowgraphs.captures.sample_type import CaptureError
    from flowgraphs.supervision import stop_on_signals
    from source_codec import Codec

    try:
        recording = _open_recording(path, sample_type, rate)
        config = receive_config(recording.metadata, waveform, rate)
    except CaptureError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with stop_on_signals() as stop, live_line() as show:
        for remark in recording.remarks():
            show(f"{path}: {remark}", True)
        hashed = _checked_hash(
            recording, lambda share: show(f"checking the hash {share:.0%}", False)
        )
        if hashed == "wrong":
            print_error(
                f"{path}: the data do not have the hash that the metadata say"
                + ("; replayed all the same" if force else " (--force replays them all the same)")
            )
            if not force:
                if json:
                    print_json({"images": [], "frames": [], "hash": hashed})
                raise typer.Exit(1)
        output.mkdir(parents=True, exist_ok=True)
        codec = Codec.load(model, threads)
        samples = recording.samples

        def observe(report: ReceiveReport, image: ReceivedImage | None) -> None:
            if image is not None:
                show(image_line(image), True)
            seen = report.statistics
            show(
                f"{seen.samples:,} of {samples:,} samples, "
                f"{seen.frames_detected} frames, {len(report.images)} images",
                False,
            )

        try:
            report, verification = play(
                recording, config, codec, saver(output), stop, observe, channel, verify
            )
        except CaptureError as error:
            raise InputError(str(error)) from error
    interrupted = stop()
    if json:
        verified = None if verification is None else asdict(verification)
        print_json(
            report.to_json() | {"hash": hashed, "verify": verified, "interrupted": interrupted}
        )
    else:
        for image in report.images:
            print(image_line(image))
        seen = report.statistics
        print(
            f"{len(report.images)} images  {seen.frames_detected} frames  {seen.samples:,} samples"
        )
        if verification is not None:
            _print_verification(verification)
    right = report.exact if verification is None else verification.same and not interrupted
    if not right:
        raise typer.Exit(1)


def _open_recording(path: Path, sample_type: str | None, rate: float | None) -> Recording:
    from flowgraphs.captures.metadata import Metadata
    from flowgraphs.captures.recording import open_raw, open_recording
    from flowgraphs.captures.sample_type import SampleType

    if sample_type is None:
        return open_recording(path)
    return open_raw(path, Metadata(SampleType.named(sample_type), rate))


def _checked_hash(recording: Recording, progress: Progress) -> str:
    """Says "right", "wrong" or "absent"."""
    expected = recording.metadata.sha512
    if expected is None:
        return "absent"
    return "right" if recording.digest(progress) == expected else "wrong"


def _print_verification(result: Verification) -> None:
    for difference in result.differences:
        print(f"DIFFERS: {difference}")
    if result.differing > len(result.differences):
        print(f"DIFFERS: and {result.differing - len(result.differences):,} more")
    beyond = f", {result.beyond} more behind them" if result.beyond else ""
    same = "the same" if result.same else f"{result.differing:,} differ"
    print(f"{result.annotations:,} annotations compared: {same}{beyond}")
