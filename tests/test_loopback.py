"""The radio in software: what it does to samples, its faults, and images through it."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flowgraphs.emulate import EmulatorConfig
from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.radio.faults import Fault, FaultyStream, parse_faults
from flowgraphs.radio.loopback import Air, LoopbackConfig, LoopbackRadio
from flowgraphs.radio.radio import RadioRequest, RadioSettings, RadioSink, RadioSource
from flowgraphs.receive import ReceiveConfig, receive
from flowgraphs.stream import ComplexArray, EndpointError, StreamStatus, samples_of, write_all
from flowgraphs.transmit import TransmitConfig, transmit
from hw_profiles import LimitError
from source_codec import Codec
from source_codec.picture import Picture
from sscc.cli import run

BASEBAND = RadioSettings(2e6, 0.0)
CLEAN = EmulatorConfig(es_n0_db=np.inf)


def never() -> bool:
    return False


def loop(**config: Any) -> LoopbackRadio:
    radio = LoopbackRadio(LoopbackConfig(**{"path": CLEAN, **config}))
    radio.open()
    radio.configure(rx=BASEBAND, tx=BASEBAND)
    return radio


def pass_through(radio: LoopbackRadio, samples: ComplexArray) -> ComplexArray:
    """All samples at once, which the air has room for."""
    sink, source = RadioSink(radio), RadioSource(radio)
    assert write_all(sink, samples, never) == samples.size
    sink.finish(never)
    return np.concatenate([np.empty(0, np.complex64), *samples_of(source, never)])


def ramp(count: int) -> ComplexArray:
    return (np.arange(count) / count).astype(np.complex64)


def test_what_is_sent_is_received_15_db_below_full_scale() -> None:
    samples = ramp(50_000)
    radio = loop()
    received = pass_through(radio, samples)
    # Full scale of I or Q is 15 dB over sqrt(1/2): 3.9764.
    assert received == pytest.approx(samples / 3.9764, abs=1e-4)
    assert radio.rx_status.samples == radio.tx_status.samples == 50_000
    assert radio.rx_status.lossless
    assert radio.tx_status.lossless
    radio.close()
    with pytest.raises(LimitError, match="not configured"):
        radio.read(0)


def test_the_twin_of_a_profile() -> None:
    """A Pluto's 12-bit codes on both ways, and what is beyond full scale is clipped and counted."""
    radio = LoopbackRadio(LoopbackConfig(profile="pluto", path=CLEAN))
    radio.open()
    radio.configure(
        rx=RadioSettings(2e6, 1e9, gains={"PGA": 0.0}), tx=RadioSettings(2e6, 1e9, gains={"PGA": 0})
    )
    samples = np.full(20_000, 0.5, np.complex64)
    samples[100] = 9.0
    received = pass_through(radio, samples)
    assert radio.tx_status.clipped_samples == 2  # on the wire, and once more in the converter
    codes = received.view(np.float32) * 2048
    assert codes == pytest.approx(np.rint(codes), abs=1e-3)
    offset = received[500:-500]
    steps = offset[1:] * np.conj(offset[:-1])
    turning = np.angle(steps.sum()) * 2e6 / (2 * np.pi)
    assert 100 < abs(turning) < 2 * 25e-6 * 1e9  # two oscillators of 25 ppm at 1 GHz


def test_faults_of_a_receiver() -> None:
    script = "overflow@1000:200+gap@3000:50+level@5000:-20+level@6000:0"
    radio = loop(rx_faults=parse_faults(script, "rx"))
    samples = ramp(10_000)
    received = pass_through(radio, samples) * 3.9764
    expected = samples.copy()
    expected[5000:6000] *= 0.1
    expected = np.delete(expected, [*range(1000, 1200), *range(3000, 3050)])
    assert received == pytest.approx(expected, abs=1e-4)
    status = radio.rx_status
    assert (status.overflows, status.gaps, status.samples_missing) == (1, 2, 250)
    assert not status.lossless


def test_a_receiver_that_goes_comes_back() -> None:
    radio = loop(rx_faults=parse_faults("disconnect@4000:500+disconnect@4600", "rx"))
    samples = ramp(10_000)
    received = pass_through(radio, samples) * 3.9764
    assert received == pytest.approx(np.delete(samples, range(4000, 4500)), abs=1e-4)
    status = radio.rx_status
    assert (status.connections, status.disconnections, status.stream_errors) == (3, 2, 2)


def test_faults_of_a_transmitter() -> None:
    script = "underflow@1000:30+level@2000:6+disconnect@3000:100"
    radio = loop(tx_faults=parse_faults(script, "tx"))
    samples = ramp(10_000)
    received = pass_through(radio, samples) * 3.9764
    expected = samples.copy()
    expected[2000:] *= 10**0.3
    expected = np.delete(expected, range(3000, 3100))
    expected = np.insert(expected, 1000, np.zeros(30))
    assert received == pytest.approx(expected, abs=1e-4)
    status = radio.tx_status
    assert (status.underflows, status.disconnections) == (1, 1)


@given(
    st.lists(
        st.builds(
            Fault,
            st.sampled_from(["overflow", "gap", "level", "underflow"]),
            st.integers(0, 120),
            st.integers(0, 40).map(float),
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 60), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_faults_do_not_depend_on_the_portions(faults: list[Fault], cuts: list[int]) -> None:
    faults = sorted(faults, key=lambda fault: fault.sample)
    samples = np.arange(150).astype(np.complex64)
    whole_status, part_status = StreamStatus(), StreamStatus()
    whole, _ = FaultyStream(tuple(faults), whole_status).process(samples)
    stream = FaultyStream(tuple(faults), part_status)
    parts = [stream.process(part)[0] for part in np.split(samples, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole_status == part_status


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoke@1:2", "kinds are overflow"),
        ("overflow:2", "KIND@SAMPLE"),
        ("overflow@-1:2", "before the first"),
        ("overflow@1:-2", "is not 0 to"),
        ("level@1:nan", "is not -200 to 200"),
        ("underflow@1:5", "kinds are overflow"),
    ],
)
def test_impossible_faults(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_faults(text, "rx")


def test_real_time_on_a_clock_of_its_own() -> None:
    now, slept = 0.0, 0.0

    def sleep(seconds: float) -> None:
        nonlocal now, slept
        now += seconds
        slept += seconds

    config = LoopbackConfig(path=CLEAN, realtime=True)
    radio = LoopbackRadio(config, clock=lambda: now, sleep=sleep)
    radio.open()
    radio.configure(rx=BASEBAND, tx=BASEBAND)
    sink, source = RadioSink(radio), RadioSource(radio)
    write_all(sink, np.zeros(200_000, np.complex64), never)
    assert slept == pytest.approx(0.1)  # 200,000 samples at 2 MHz
    read = 0
    while read < 200_000:
        samples = source.read(0)
        assert samples is not None
        read += samples.size
    assert slept == pytest.approx(0.2)
    now += 10  # nobody gave the transmitter anything to send
    write_all(sink, np.zeros(1000, np.complex64), never)
    assert radio.tx_status.underflows == 1


def test_images_through_a_radio_that_hears_itself(codec: Codec, photo: Any, tmp_path: Path) -> None:
    """Two threads, a full-duplex radio, Rayleigh fading, and an image lost to an overflow."""
    images = [photo(16, 16, seed=k) for k in range(3)]
    streams = codec.encode_many(images)
    gain = {"PGA": 10.0}
    path = EmulatorConfig("rayleigh", es_n0_db=20.0, seed=3)
    sink_probe = Air(10**7)
    config = TransmitConfig(mcs="qpsk-1/2")
    sent = transmit(streams, sink_probe, config, never)
    middle = sent.samples // 2
    faults = parse_faults(f"overflow@{middle - 3000}:6000", "rx")
    radio = LoopbackRadio(LoopbackConfig(profile="pluto", path=path, rx_faults=faults))
    radio.open()
    settings = RadioSettings(2e6, 2.4e9, gains=gain)
    radio.configure(rx=settings, tx=settings)
    pictures: list[Picture] = []

    def save(picture: Picture) -> str:
        pictures.append(picture)
        return str(len(pictures))

    sender = threading.Thread(
        target=lambda: transmit(streams, RadioSink(radio), config, never), daemon=True
    )
    sender.start()
    report = receive(RadioSource(radio), ReceiveConfig(), codec, save, never)
    sender.join(20)
    assert [image.exact for image in report.images] == [True, False, True]
    np.testing.assert_array_equal(pictures[0].pixels, images[0])
    np.testing.assert_array_equal(pictures[1].pixels, images[2])
    assert radio.rx_status.overflows == 1


def test_two_ends_by_uri(tmp_path: Path) -> None:
    request = RadioRequest("simulated", BASEBAND)
    air = f"air=file:{tmp_path}/air.cf32"
    samples = ramp(30_000)
    with open_sink(f"loopback:realtime=0,faults=level@0:6,{air}", request) as sink:
        write_all(sink, samples, never)
        sink.finish(never)
    uri = f"loopback:realtime=0,snr=inf,faults=overflow@100:10,{air}"
    with open_source(uri, replace(request, backoff_db=3)) as source:
        received = np.concatenate(list(samples_of(source, never)))
    expected = np.delete(samples, range(100, 110)) * (10**0.3 / 3.9764)
    assert received == pytest.approx(expected, abs=1e-4)
    assert source.status.overflows == 1


def test_the_commands_with_a_radio_at_either_end(
    codec: Codec, photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Pluto's twin sends and another receives; what both radios lost is told."""
    image = photo(16, 16)
    (tmp_path / "x.ddm").write_bytes(codec.encode(image))
    pluto = ("-p", "pluto", "--frequency", "2.4e9", "--gain", "10", "--json")
    air = f"air=file:{tmp_path}/air.cf32"
    to = f"loopback:realtime=0,faults=underflow@100:50,{air}"
    assert run(["tx", f"{tmp_path}/x.ddm", "--to", to, *pluto]) == 1
    captured = capsys.readouterr()
    sent = json.loads(captured.out)
    assert (sent["complete"], sent["sink"]["underflows"]) == (True, 1)
    assert ": pluto at 2.4 GHz, 2 MHz of samples, PGA 10" in captured.err
    source = f"loopback:realtime=0,snr=15,faults=disconnect@3000:100,{air}"
    assert run(["rx", "--from", source, "-o", str(tmp_path), *pluto]) == 0
    received = json.loads(capsys.readouterr().out)
    counts = received["source"]
    assert (counts["connections"], counts["disconnections"], counts["stream_errors"]) == (2, 1, 1)
    assert received["receiver"]["samples"] == counts["samples"]
    pixels = np.array(Image.open(tmp_path / received["images"][0]["name"]))
    np.testing.assert_array_equal(pixels, image)
    # Both oscillators are wrong, as the twin of this seed says.
    assert 50 < abs(received["frames"][0]["cfo_hz"]) < 2 * 25e-6 * 2.4e9


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("loopback:", "give loopback:air="),
        ("loopback:snr=3", "give loopback:air="),
        ("loopback:smoke=3,air=file:x", "no option 'smoke'; there are channel"),
        ("loopback:snr=x,air=file:x", "snr=x"),
        ("loopback:snr=nan,air=file:x", "es_n0_db must be"),
        ("loopback:channel=smoke,air=file:x", "unknown channel"),
        ("loopback:faults=overflow@1:1,air=file:x", "kinds are underflow"),
        ("loopback:realtime=2,air=file:x", "must be 0 or 1"),
        ("loopback:air=smoke:x", "not a sink"),
    ],
)
def test_malformed_uris(uri: str, message: str) -> None:
    with pytest.raises(EndpointError, match=message):
        open_sink(uri, RadioRequest("simulated", BASEBAND))


def test_the_search_follows_the_clocks(
    codec: Codec, photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.15 cycles per sample: at 5.8 GHz two clocks may be so far apart; without a profile not."""
    image = photo(16, 16)
    (tmp_path / "x.ddm").write_bytes(codec.encode(image))
    sent, air = f"file:{tmp_path}/sent.cf32", f"file:{tmp_path}/air.cf32"
    assert run(["tx", f"{tmp_path}/x.ddm", "--to", sent]) == 0
    assert run(["channel", "--from", sent, "--to", air, "--snr", "15", "--cfo", "300000"]) == 0
    receive = ["rx", "--from", air, "-o", str(tmp_path)]
    bladerf = ["-p", "bladerf-2-micro", "--frequency"]
    assert run(receive) == 1
    assert run([*receive, *bladerf, "2e9"]) == 1  # 52 kHz
    assert "further than is searched" not in capsys.readouterr().err
    pluto = ["-p", "pluto", "--frequency", "3.8e9"]  # 190 kHz: no further than always
    assert run([*receive, *pluto]) == 1
    # 150 kHz of 1 MHz: 26 ppm at 5.8 GHz.
    slow = ["--symbol-rate", "500e3"]
    assert run([*receive, *slow, *bladerf, "5.8e9"]) == 0
    assert (
        run([*receive, "--symbol-rate", "300e3", *bladerf, "5.8e9"]) == 0
    )  # as far as there is room
    assert "151 kHz apart at this frequency, further than is searched" in capsys.readouterr().err
