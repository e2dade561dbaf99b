"""ZeroMQ ends against each other and against bare sockets, on free ports of this machine."""

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.stream import (
    ComplexArray,
    EndpointError,
    SampleSink,
    SampleSource,
    samples_of,
    write_all,
)
from flowgraphs.zeromq.sinks import ZmqSink
from flowgraphs.zeromq.sources import ZmqSource
from flowgraphs.zeromq.tags import StreamTag, read_header, write_header

PARTNERS = {"push": "pull", "pub": "sub", "rep": "req"}
SAMPLES = (np.arange(50_000) * (1 + 2j)).astype(np.complex64)


def never() -> bool:
    return False


def partner(address: str, options: str = "") -> str:
    """The URI of the other end."""
    for sink, source in PARTNERS.items():
        for one, other in ((sink, source), (source, sink)):
            if address.startswith(f"zmq+{one}:"):
                return address.replace(one, other, 1) + options
    raise AssertionError(address)


class Sending:
    """A thread that writes samples to a sink, and marks their end."""

    def __init__(self, sink: SampleSink, samples: ComplexArray = SAMPLES) -> None:
        self.stopped = threading.Event()
        self.error: Exception | None = None
        self._work = (sink, samples)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sink, samples = self._work
        try:
            self.taken = write_all(sink, samples, self.stopped.is_set)
            sink.finish(self.stopped.is_set)
        except EndpointError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def received(source: SampleSource, count: int) -> ComplexArray:
    """The first `count` samples, or all if there are fewer."""
    source.timeout_s = 10
    parts: list[ComplexArray] = []
    for samples in samples_of(source, never):
        parts.append(samples)
        if sum(part.size for part in parts) >= count:
            break
    return np.concatenate(parts)


@pytest.mark.parametrize("sink_binds", [True, False], ids=["sink-binds", "source-binds"])
@pytest.mark.parametrize("options", ["", "?tags=1"], ids=["raw", "tags"])
@pytest.mark.parametrize("pattern", PARTNERS)
def test_every_pattern(pattern: str, options: str, sink_binds: bool) -> None:
    more = (options + "&" if options else "?") + "chunk=3000"
    if sink_binds:
        sink = open_sink(f"zmq+{pattern}://127.0.0.1:0{more}")
        source = open_source(partner(sink.address, more))
    else:
        source = open_source(f"zmq+{PARTNERS[pattern]}://127.0.0.1:0{more}&bind=1")
        sink = open_sink(partner(source.address, f"{more}&bind=0"))
    with sink, source:
        sending = Sending(sink)
        if options:  # the end is marked, and everything before it
            result = received(source, 2 * SAMPLES.size)
            np.testing.assert_array_equal(result, np.append(SAMPLES, np.zeros(3000)))
            assert source.read(0) is None
        else:
            np.testing.assert_array_equal(received(source, SAMPLES.size), SAMPLES)
        sending.join()
        assert source.status.lossless
        assert sink.status.lossless
        assert source.status.samples == sink.status.samples
        assert source.status.connections == 1


def test_a_unix_socket_and_a_key(tmp_path: Path) -> None:
    with (
        open_sink(f"zmq+pub://{tmp_path}/iq?key=radio-1&tags=1") as sink,
        open_source(f"zmq+sub://{tmp_path}/iq?key=radio-1&tags=1") as source,
    ):
        assert isinstance(sink, ZmqSink)
        assert isinstance(source, ZmqSource)
        sink.tag("rx_freq", 2.4e9, "test")
        sending = Sending(sink, SAMPLES[:10])
        assert received(source, 10_000).size == 10 + 4096
        sending.join()
        assert list(source.tags) == [
            StreamTag(0, "rx_freq", 2.4e9, "test"),
            StreamTag(10, "end_of_stream", True),
        ]


@pytest.fixture
def socket() -> Iterator[zmq.Socket[bytes]]:
    """A bare REQ socket."""
    with zmq.Context() as context, context.socket(zmq.REQ) as bare:
        bare.linger = 0
        bare.rcvtimeo = 10_000
        yield bare


def endpoint(end: SampleSink | SampleSource) -> str:
    return "tcp:" + end.address.partition(":")[2]


def test_requests_of_gnu_radio_and_of_srsran(socket: zmq.Socket[bytes]) -> None:
    items = SAMPLES[:5000]
    with open_sink("zmq+rep://127.0.0.1:0?chunk=1500") as sink:
        socket.connect(endpoint(sink))
        sending = Sending(sink, items)
        sizes = []
        data = b""
        for question in (struct.pack("<I", 100), b"", b"\xff", b"\x00", struct.pack("<I", 2)):
            socket.send(question)
            reply = socket.recv()
            sizes.append(len(reply) // 8)
            data += reply
        assert sizes == [100, 1500, 1500, 1500, 2]
        socket.send(struct.pack("<I", 0))
        assert socket.recv() == b""
        socket.send(struct.pack("<I", 10**6))
        assert len(socket.recv()) == 8 * (5000 - 4602)
        sending.join()
        assert data == items[:4602].tobytes()
        assert sink.status.requests == 7
        assert sink.status.empty == 1


def test_requests_that_are_none_are_counted(socket: zmq.Socket[bytes]) -> None:
    with open_sink("zmq+rep://127.0.0.1:0") as sink:
        socket.connect(endpoint(sink))
        socket.send(b"12345")
        assert sink.write(SAMPLES[:10], 5) == 0
        assert sink.status.malformed == 1
        assert sink.status.last_error == "a request of 5 bytes where 4 are the most"


def test_replies_may_be_empty_and_cut_samples() -> None:
    data = SAMPLES[:100].tobytes()
    with zmq.Context() as context, context.socket(zmq.REP) as server:
        server.linger = 0
        port = server.bind_to_random_port("tcp://127.0.0.1")
        with open_source(f"zmq+req://127.0.0.1:{port}?chunk=77") as source:
            asked = []

            def serve() -> None:
                for reply in (b"", data[:13], b"", data[13:500], data[500:]):
                    asked.append(server.recv())
                    server.send(reply)

            thread = threading.Thread(target=serve)
            thread.start()
            np.testing.assert_array_equal(received(source, 100), SAMPLES[:100])
            thread.join(10)
            assert asked == [struct.pack("<I", 77)] * 5
            assert (source.status.empty, source.status.carried) == (2, 2)
            assert source.read(0.01).size == 0  # type: ignore[union-attr]


def test_hostile_messages_are_counted_and_the_next_one_is_read() -> None:
    with (
        open_source("zmq+pull://127.0.0.1:0?bind=1&tags=1") as source,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as bare,
    ):
        bare.connect(endpoint(source))
        bare.send(b"short")
        bare.send_multipart([b"two", b"frames"])
        bare.send(struct.pack("<HBQQ", 0x5FF0, 1, 0, 2**60) + bytes(100))
        bare.send(struct.pack("<HBQQQ", 0x5FF0, 1, 0, 1, 0) + b"\x0c\xff\xff\xff\xff")
        bare.send(write_header(29) + SAMPLES[:9].tobytes())
        np.testing.assert_array_equal(received(source, 9), SAMPLES[:9])
        status = source.status
        assert (status.messages, status.malformed, status.samples) == (5, 4, 9)


def test_a_slow_subscriber_holds_the_publisher_up() -> None:
    count = 1_000_000
    with open_sink("zmq+pub://127.0.0.1:0?hwm=2") as sink:
        with open_source(partner(sink.address, "?hwm=2")) as source:
            sending = Sending(sink, np.zeros(count, np.complex64))
            assert received(source, count).size == count
            sending.join()
        assert sink.status.samples_dropped == 0


def test_a_full_publisher_drops_and_counts_if_it_is_told_to() -> None:
    samples = np.arange(8_000_000).astype(np.complex64)  # more than sockets and queues hold
    with (
        open_sink("zmq+pub://127.0.0.1:0?hwm=2&drop=1&tags=1&eos=0&chunk=65536") as sink,
        open_source(partner(sink.address, "?hwm=2&tags=1")) as source,
    ):
        sending = Sending(sink, samples)
        sending.join()
        dropped = sink.status.samples_dropped
        assert 0 < dropped < samples.size
        assert sink.status.samples == samples.size - dropped
        # What arrives tells of the gaps; the end of the stream is one that nobody sees.
        result = received(source, samples.size - dropped)
        assert result.size == samples.size - dropped
        assert 0 <= source.status.samples_missing <= dropped


def test_a_publisher_that_does_not_wait_counts_what_nobody_heard() -> None:
    with open_sink("zmq+pub://127.0.0.1:0?wait=0") as sink:
        assert sink.write(SAMPLES, 0) == SAMPLES.size
        assert sink.status.samples_unheard == SAMPLES.size
        assert not sink.status.lossless


@pytest.mark.parametrize("pattern", PARTNERS)
def test_a_source_that_is_restarted(pattern: str) -> None:
    """Nothing is lost but what was on its way to the first one; with requests that is nothing."""
    samples = np.arange(3_000_000).astype(np.complex64)  # more than sockets and queues hold
    with open_sink(f"zmq+{pattern}://127.0.0.1:0?hwm=2&tags=1") as sink:
        sending = Sending(sink, samples)
        with open_source(partner(sink.address, "?hwm=2&tags=1")) as first:
            before = received(first, 1000)
        np.testing.assert_array_equal(before, samples[: before.size])
        with open_source(partner(sink.address, "?hwm=2&tags=1")) as second:
            after = received(second, samples.size + 10_000)
            assert second.status.lossless
        sending.join()
        begin = int(after[0].real)
        np.testing.assert_array_equal(after, np.append(samples[begin:], np.zeros(4096)))
        assert begin == before.size if pattern == "rep" else begin >= before.size
        assert sink.status.connections == 2


@pytest.mark.parametrize("pattern", PARTNERS)
def test_a_sink_that_is_restarted(pattern: str) -> None:
    sink = open_sink(f"zmq+{pattern}://127.0.0.1:0?tags=1&eos=0")
    with open_source(partner(sink.address, "?tags=1")) as source:
        for _ in range(3):
            with sink:
                sending = Sending(sink, SAMPLES)
                np.testing.assert_array_equal(received(source, SAMPLES.size), SAMPLES)
                sending.join()
            sink = open_sink(sink.address + "?tags=1&eos=0")
        sink.close()
        assert source.status.restarts == 2
        assert source.status.lossless


def test_those_who_hold_samples_back_ask_for_zeros_behind_the_end_mark() -> None:
    """Replies as small as they are asked for; whoever heeds the mark asks no more."""
    for questions, expected in ((5, 400), (3, 200), (2, 100), (60, 4096)):
        with open_sink("zmq+rep://127.0.0.1:0?tags=1") as sink, zmq.Context() as context:
            with context.socket(zmq.REQ) as bare:
                bare.linger, bare.rcvtimeo = 0, 10_000
                bare.connect(endpoint(sink))
                sending = Sending(sink, SAMPLES[:10])
                sizes, tags = [], []
                for _ in range(questions):
                    bare.send(struct.pack("<I", 100))
                    header, start = read_header(reply := bare.recv())
                    sizes.append((len(reply) - start) // 8)
                    tags += header.tags
                    if sum(sizes) == 10 + expected:
                        break
                sending.join()
            assert sending.error is None
            assert sum(sizes) == 10 + expected
            assert tags == [StreamTag(10, "end_of_stream", True)]
            assert sink.status.samples == 10 + expected


@pytest.mark.parametrize("pattern", PARTNERS)
def test_a_sink_hears_that_it_is_deserted(pattern: str) -> None:
    with open_sink(f"zmq+{pattern}://127.0.0.1:0") as sink:
        assert not sink.deserted  # nobody was there yet
        for _ in range(2):
            with open_source(partner(sink.address)) as source:
                sending = Sending(sink, SAMPLES[:8192])
                assert received(source, 8192).size == 8192
                sending.join()
                assert not sink.deserted
            deadline = time.monotonic() + 10
            while sink.write(SAMPLES[:1], 0.1) or not sink.deserted:
                assert time.monotonic() < deadline


def test_a_sink_without_takers_gives_up() -> None:
    with (
        open_sink("zmq+push://127.0.0.1:0?timeout=0.05&linger=0") as sink,
        pytest.raises(EndpointError, match=r"took no samples for 0\.05 s"),
    ):
        write_all(sink, SAMPLES, never)


def test_a_silent_source_ends() -> None:
    with open_source("zmq+pull://127.0.0.1:0?bind=1&timeout=0.05") as source:
        assert list(samples_of(source, never)) == []


class ListSource(SampleSource):
    """Gives arrays of which all have arrived."""

    backlog = 3

    def __init__(self, parts: list[ComplexArray]) -> None:
        super().__init__("list:")
        self._parts = parts

    def read(self, timeout_s: float) -> ComplexArray | None:
        return self._parts.pop(0) if self._parts else None

    def close(self) -> None:
        pass


def test_what_had_arrived_is_read_after_a_stop() -> None:
    parts = [SAMPLES[k : k + 1] for k in range(6)]
    reading = samples_of(ListSource(parts), lambda: len(parts) <= 4)
    # Two before the stop, and then as many messages as may have been waiting.
    assert [part[0] for part in reading] == SAMPLES[:5].tolist()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("zmq+pull://127.0.0.1:1", "not a sink"),
        ("smoke:x", "not a sink"),
        ("file:", "give file:PATH"),
        ("zmq+push://127.0.0.1", "give zmq"),
        ("zmq+push://", "give zmq"),
        ("zmq+push://127.0.0.1:99999", "Port out of range"),
        ("zmq+push://127.0.0.1:0?speed=1", "no option 'speed'"),
        ("zmq+push://127.0.0.1:0?tags=yes", "must be 0 or 1"),
        ("zmq+push://127.0.0.1:0?hwm=0", "must be 1 to"),
        ("zmq+push://127.0.0.1:0?timeout=-1", "must be 0 to"),
        ("zmq+push://127.0.0.1:0?key=a", "only pub and sub"),
        ("zmq+push://127.0.0.1:0?tags", "bad query field"),
        ("zmq+push://192.0.2.1:5", "assign requested address"),
    ],
)
def test_bad_addresses_are_refused(uri: str, reason: str) -> None:
    with pytest.raises(EndpointError, match=reason):
        open_sink(uri)


def test_an_address_in_use_is_refused() -> None:
    with (
        open_sink("zmq+push://127.0.0.1:0") as sink,
        pytest.raises(EndpointError, match="in use"),
    ):
        open_sink(sink.address)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "iq.cf32"
    with open_sink(f"file:{path}") as sink:
        assert write_all(sink, SAMPLES, never) == SAMPLES.size
    assert path.read_bytes() == SAMPLES.tobytes()
    path.write_bytes(SAMPLES.tobytes() + b"123")
    with open_source(f"file:{path}") as source:
        np.testing.assert_array_equal(np.concatenate(list(samples_of(source, never))), SAMPLES)
        assert source.status.bytes_discarded == 3
