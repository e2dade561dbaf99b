"""The commands that exchange samples with other programs: ``tx``, ``rx``, ``channel``.

Registered by :mod:`sscc.cli`. What arrives while a command runs is told on stderr; the report is on
stdout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sscc import path_options, radio_options
from sscc.errors import InputError
from sscc.help_panels import GroupedOptions
from sscc.options import InputFile, Json, Model, NoHistory, OutputFolder, Threads
from sscc.output import live_line, print_error, print_json
from sscc.radio_options import carrier_offset_hz, radio_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowgraphs.radio.radio import RadioRequest
    from flowgraphs.receive import ReceivedImage, ReceiveReport
    from flowgraphs.stream import Endpoint
    from source_codec import Codec
    from source_codec.picture import Picture

_End = TypeVar("_End", bound="Endpoint")

_Waveform = Annotated[
    str, typer.Option(metavar="NAME", help="single-carrier, ofdm, or symbols (without a radio).")
]
_SymbolRate = Annotated[float, typer.Option(metavar="HZ", help="Symbols a second.")]
_Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="S", min=0, help="Silence after which to end.  [default: none, or the URI's]"
    ),
]
_SINKS = "file:PATH, sigmf:PATH, zmq+push://HOST:PORT, zmq+pub:// or zmq+rep://"
_SOURCES = "file:PATH, sigmf:PATH, zmq+pull://HOST:PORT, zmq+sub:// or zmq+req://"
_RADIOS = ", or a radio, soapy:driver=NAME or loopback:"
_Sink = Annotated[str, typer.Option("--to", metavar="SINK", help=f"{_SINKS}.")]
_Source = Annotated[str, typer.Option("--from", metavar="SOURCE", help=f"{_SOURCES}.")]
_RadioSink = Annotated[str, typer.Option("--to", metavar="SINK", help=f"{_SINKS}{_RADIOS}.")]
_RadioSource = Annotated[
    str, typer.Option("--from", metavar="SOURCE", help=f"{_SOURCES}{_RADIOS}.")
]
_Realtime = Annotated[
    bool, typer.Option("--realtime", help="Not faster than the sample rate; counts late samples.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program's."""
    app.command(cls=GroupedOptions)(tx)
    app.command(cls=GroupedOptions)(rx)
    app.command(cls=GroupedOptions)(channel)


def tx(
    images: Annotated[list[Path], InputFile],
    to: _RadioSink,
    mcs: Annotated[
        str, typer.Option(metavar="NAME", help="Modulation and code rate, such as 16qam-3/4.")
    ] = "qpsk-1/2",
    waveform: _Waveform = "single-carrier",
    symbol_rate: _SymbolRate = 1e6,
    depth: Annotated[
        int, typer.Option(metavar="N", min=1, help="Frames that the interleaver spans.")
    ] = 16,
    gap: Annotated[
        float, typer.Option(metavar="S", min=0, help="Silence before, between and after images.")
    ] = 0.01,
    repeat: Annotated[
        int, typer.Option(metavar="N", min=0, help="Times to send all; 0 for without end.")
    ] = 1,
    realtime: _Realtime = False,
    profile: radio_options.Profile = None,
    frequency: radio_options.Frequency = None,
    gain: radio_options.Gain = None,
    bandwidth: radio_options.Bandwidth = None,
    antenna: radio_options.Antenna = None,
    radio_channel: radio_options.RadioChannel = 0,
    backoff: radio_options.Backoff = 15.0,
    timeout: _Timeout = None,
    no_history: NoHistory = False,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Sends images, or .ddm files as they are, as frames to a sink of samples.

    Ctrl-C and a terminate signal end it behind the frame on its way. The exit status is 1 if not
    all was sent, or if the sink is known to have lost some of it. The options in a sink's URI are
    described in docs/zeromq.md. A radio transmits at the frequency and gain that are given, and at
    no others: mind licences and safe levels, docs/radio.md.

    \b
    Example:
      sscc tx photo.png --to zmq+push://127.0.0.1:5555
      sscc tx *.png --to file:capture.cf32 --mcs 16qam-1/2 --waveform ofdm
      sscc tx photo.png --to soapy:driver=hackrf -p hackrf-one --frequency 2.45e9 --gain AMP=0,VGA=0
    """
    from flowgraphs.endpoints import open_sink
    from flowgraphs.supervision import Pacer, stop_on_signals
    from flowgraphs.transmit import TransmitConfig, TransmitReport, transmit
    from phy.message import MessageLengthError
    from source_codec import Codec

    try:
        config = TransmitConfig(mcs, depth, waveform, symbol_rate, gap, repeat)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    request = radio_request(
        to, "tx", waveform, symbol_rate, profile, frequency, gain, bandwidth, antenna,
        radio_channel, backoff,
    )  # fmt: skip
    with (
        stop_on_signals() as stop,
        opened(lambda uri: open_sink(uri, request), to, timeout) as sink,
        live_line() as show,
    ):
        codec = Codec.load(model, threads)
        show(f"sending to {sink.address}{_radio(request)}", True)

        def observe(report: TransmitReport) -> None:
            show(
                f"{report.messages} images, {report.frames} frames, {report.samples:,} samples"
                f"{_losses(sink)}",
                False,
            )

        try:
            streams = _streams(images, codec, not no_history)
            pacer = Pacer(config.sample_rate) if realtime else None
            report = transmit(streams, sink, config, stop, observe, pacer)
        except MessageLengthError as error:
            raise InputError(f"{error}; of {len(images)} files") from error
    result = asdict(report) | {"sink": asdict(sink.status), "interrupted": stop()}
    if report.failure:
        print_error(report.failure)
    if report.silence_left:
        print_error(
            f"{sink.address}: {report.silence_left:,} samples of silence were not taken, as all "
            "receivers had left"
        )
    if json:
        print_json(result)
    else:
        print(f"{report.messages} images  {report.frames} frames  {report.samples:,} samples")
        _print_late(report.samples_late)
        print_losses(sink)
    endless = repeat == 0 and stop()
    if not ((report.complete or endless) and sink.status.lossless):
        raise typer.Exit(1)


def _streams(images: list[Path], codec: Codec, histories: bool) -> Iterator[bytes]:
    """The files as ``.ddm`` streams, each encoded when its turn comes."""
    from source_codec import CorruptStream, UnsupportedImage
    from source_codec.container import read_header
    from sscc.encoding import SUFFIX
    from sscc.images import read_pictures

    for path in images:
        if path.suffix.lower() == SUFFIX:
            stream = path.read_bytes()
            try:
                read_header(stream)
            except CorruptStream as error:
                raise InputError(f"{path}: {error}") from error
            yield stream
            continue
        for picture in read_pictures(path)[1]:
            try:
                yield codec.encode(picture, histories=histories)
            except UnsupportedImage as error:
                raise InputError(f"{path}: {error}") from error


def rx(
    source: _RadioSource,
    output: OutputFolder = Path(),
    waveform: _Waveform = "single-carrier",
    symbol_rate: _SymbolRate = 1e6,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Complete images after which to end.")
    ] = None,
    profile: radio_options.Profile = None,
    frequency: radio_options.Frequency = None,
    gain: radio_options.Gain = None,
    bandwidth: radio_options.Bandwidth = None,
    antenna: radio_options.Antenna = None,
    radio_channel: radio_options.RadioChannel = 0,
    timeout: _Timeout = None,
    model: Model = "default",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Receives images from a source of samples, and writes those that are exact as PNG files.

    Ends with the source, after --count images or --timeout seconds without a sample, or on Ctrl-C
    or a terminate signal; what had arrived is decoded still. Files are called image-00000.png and
    so on, and no file is overwritten. The exit status is 1 if an image was lost, or none came.

    \b
    Example:
      sscc rx --from zmq+pull://127.0.0.1:5555 -o received/ --timeout 10
      sscc rx --from file:capture.cf32 -o received/ --waveform ofdm --json
      sscc rx --from soapy:driver=rtlsdr -p rtl-sdr-v4 --frequency 868e6 --gain 20.7 -o received/
    """
    from flowgraphs.endpoints import open_source
    from flowgraphs.receive import ReceiveConfig, receive
    from flowgraphs.supervision import stop_on_signals
    from source_codec import Codec

    try:
        config = ReceiveConfig(waveform, symbol_rate, count)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    request = radio_request(
        source, "rx", waveform, symbol_rate, profile, frequency, gain, bandwidth, antenna,
        radio_channel,
    )  # fmt: skip
    offset_hz = carrier_offset_hz(request)
    config = replace(config, carrier_offset_hz=offset_hz)
    if not config.reaches:
        print_error(
            f"carriers may be {offset_hz / 1e3:.0f} kHz apart at this frequency, further than is "
            "searched at this symbol rate: a higher --symbol-rate searches further"
        )
    with (
        stop_on_signals() as stop,
        opened(lambda uri: open_source(uri, request), source, timeout) as samples,
        live_line() as show,
    ):
        output.mkdir(parents=True, exist_ok=True)
        codec = Codec.load(model, threads)
        show(f"receiving from {samples.address}{_radio(request)}", True)

        def observe(report: ReceiveReport, image: ReceivedImage | None) -> None:
            if image is not None:
                show(image_line(image), True)
            seen = report.statistics
            show(
                f"{seen.samples:,} samples, {seen.frames_detected} frames "
                f"({seen.header_failures} without header), {len(report.images)} images"
                f"{_losses(samples)}",
                False,
            )

        report = receive(samples, config, codec, saver(output), stop, observe)
    if json:
        print_json(report.to_json() | {"source": asdict(samples.status), "interrupted": stop()})
    else:
        for image in report.images:
            print(image_line(image))
        seen = report.statistics
        print(
            f"{len(report.images)} images  {seen.frames_detected} frames  {seen.samples:,} samples"
        )
        print_losses(samples)
    if not report.exact:
        raise typer.Exit(1)


def saver(folder: Path) -> Callable[[Picture], str]:
    """Writes pictures under the next free names."""
    from sscc.images import write_picture

    number = 0

    def save(picture: Picture) -> str:
        nonlocal number
        while (path := folder / f"image-{number:05}.png").exists():
            number += 1
        write_picture(path, picture)
        return path.name

    return save


def image_line(image: ReceivedImage) -> str:
    """What became of an image, in a line."""
    if image.mcs is None:
        return f"LOST at {image.stage_failed}: message {image.message_id}"
    level = f"message {image.message_id}, {image.mcs}, {image.snr_db:.1f} dB"
    if image.exact:
        return f"{image.name}  exact  ({level})"
    lost = f"{image.block_errors} of {image.blocks} blocks lost"
    return f"LOST at {image.stage_failed}: {lost}  ({level})"


def channel(
    source: _Source,
    to: _Sink,
    name: path_options.Channel = "awgn",
    snr: path_options.Snr = 15.0,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every random draw.")] = 1,
    sample_rate: Annotated[
        float, typer.Option(metavar="HZ", help="Samples a second; relates Hz and s to samples.")
    ] = 2e6,
    realtime: _Realtime = False,
    doppler: path_options.Doppler = 50.0,
    delay_spread: path_options.DelaySpread = "100ns",
    block_length: path_options.BlockLength = 1000,
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
    profile: path_options.TwinProfile = "simulated",
    frequency: path_options.TwinFrequency = None,
    waveform: _Waveform = "single-carrier",
    timeout: _Timeout = None,
    json: Json = False,
) -> None:
    """A channel between two programs: samples in, the same with fading, faults and noise out.

    Es/N0 counts on a signal of unit mean power, with as many samples a symbol as the waveform has.
    The exit status is 1 if the sink did not take everything.

    \b
    Example:
      sscc channel --from zmq+pull://127.0.0.1:5555 --to zmq+push://127.0.0.1:5556 -c rayleigh -s 12
      sscc channel --from file:sent.cf32 --to file:received.cf32 -c tdl-a --cfo 5000
      sscc channel --from file:sent.cf32 --to file:received.cf32 --profile pluto
    """
    from flowgraphs.emulate import EmulatorConfig, EmulatorReport, emulate
    from flowgraphs.endpoints import open_sink, open_source
    from flowgraphs.path import samples_per_symbol
    from flowgraphs.supervision import Pacer, stop_on_signals

    try:
        config = EmulatorConfig(
            channel=name,
            es_n0_db=snr,
            seed=seed,
            symbol_rate=sample_rate / samples_per_symbol(waveform),
            waveform=waveform,
            doppler_hz=doppler,
            delay_spread_s=delay_spread,
            block_length=block_length,
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
    pacer = Pacer(sample_rate) if realtime else None
    with (
        stop_on_signals() as stop,
        opened(open_source, source, timeout) as incoming,
        opened(open_sink, to, timeout) as outgoing,
        live_line() as show,
    ):
        show(f"from {incoming.address} to {outgoing.address}", True)

        def observe(report: EmulatorReport) -> None:
            show(
                f"{report.samples_in:,} samples in, {report.samples_out:,} out"
                f"{_losses(incoming, outgoing)}",
                False,
            )

        path = config.block()
        report = emulate(incoming, outgoing, path, stop, pacer, observe)
    if report.failure:
        print_error(report.failure)
    if json:
        ends = {"source": asdict(incoming.status), "sink": asdict(outgoing.status)}
        clipped = {"clipped_samples": path.clipped_samples}
        print_json(asdict(report) | clipped | ends | {"interrupted": stop()})
    else:
        print(f"{report.samples_in:,} samples in  {report.samples_out:,} samples out")
        if path.clipped_samples:
            print_error(f"{path.clipped_samples:,} samples clipped by converters")
        _print_late(report.samples_late)
        print_losses(incoming, outgoing)
    if not (report.complete and outgoing.status.lossless):
        raise typer.Exit(1)


def opened(open_end: Callable[[str], _End], uri: str, timeout_s: float | None) -> _End:
    """A source or sink; what cannot be opened is the user's error."""
    from flowgraphs.stream import EndpointError

    try:
        end = open_end(uri)
    except EndpointError as error:
        raise InputError(str(error)) from error
    if timeout_s is not None:
        end.timeout_s = timeout_s
    return end


def _radio(request: RadioRequest | None) -> str:
    """What a radio, or one that may be behind an end, is asked for; to follow the address."""
    return "" if request is None else f": {request}"


def _print_late(samples: int) -> None:
    if samples:
        print_error(f"{samples:,} samples late: real time was missed")


def _counts(end: Endpoint) -> str:
    """What an end counted beside samples, or nothing."""
    return ", ".join(
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in asdict(end.status).items()
        if count and name not in ("samples", "messages", "connections", "requests", "last_error")
    )


def _losses(*ends: Endpoint) -> str:
    """What the ends counted beside samples, to follow other figures on the live line."""
    return "".join(f"; {counts}" for counts in map(_counts, ends) if counts)


def print_losses(*ends: Endpoint) -> None:
    """The same on stderr, at the end."""
    for end in ends:
        if counts := _counts(end):
            print_error(f"{end.address}: {counts}")
        if end.status.last_error:
            print_error(f"{end.address}: the last failure was: {end.status.last_error}")
