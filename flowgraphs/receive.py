"""Images from a source of samples: the receiver, the codec behind it, and a log of all frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from flowgraphs.link import SOURCE_STAGE, WAVEFORMS
from flowgraphs.stream import SampleSource, Stop, samples_of
from phy import (
    FAILURE_STAGES,
    BlockReceived,
    Event,
    FrameReport,
    MessageReceived,
    Receiver,
    ReceiverConfig,
    ReceiverStatistics,
)
from source_codec import Codec, CorruptStream
from source_codec.picture import Picture

FRAMES_LOGGED = 10_000
"""Frames kept in the report, the latest ones: a receiver runs for hours."""
_LARGEST_JUMP = 256  # of message numbers; beyond it another transmission is assumed
_MESSAGE_IDS = 2**16
_IMAGES_WAITING = 4  # messages that may wait for the codec


@dataclass(frozen=True)
class ReceiveConfig:
    """Parameters of a reception.

    Attributes:
        waveform: one of :data:`flowgraphs.link.WAVEFORMS`; scheme and depth are in the headers.
        symbol_rate: symbols a second.
        count: complete messages after which the reception ends; None for no such end.
    """

    waveform: str = "single-carrier"
    symbol_rate: float = 1e6
    count: int | None = None

    def __post_init__(self) -> None:
        if self.waveform not in WAVEFORMS:
            raise ValueError(f"unknown waveform {self.waveform!r}; one of {', '.join(WAVEFORMS)}")
        self.make_receiver()

    def make_receiver(self) -> Receiver:
        """The receiver."""
        waveform = WAVEFORMS[self.waveform]
        return Receiver(ReceiverConfig(waveform=waveform, symbol_rate_hz=self.symbol_rate))


@dataclass
class FrameEntry:
    """A line of the log.

    Attributes:
        sample_index: where the frame began in the stream.
        detected: always true, as frames that were not are in no log.
        header_ok: the header could be read.
        payload_ok: its transport block was decoded.
        snr_db, evm_db, cfo_hz, clock_ppm: as in :class:`phy.FrameReport`.
        message_id, block_index, frame_index: from its header, or None.
        failure: what went wrong with the frame, or None.
    """

    sample_index: int
    detected: bool
    header_ok: bool
    payload_ok: bool
    snr_db: float
    evm_db: float
    cfo_hz: float | None
    clock_ppm: float | None
    message_id: int | None
    block_index: int | None
    frame_index: int | None
    failure: str | None


class FrameLog:
    """The latest frames; whether their payload arrived becomes known with their block.

    Attributes:
        entries: the log.
        omitted: earlier frames that it has no more.
    """

    def __init__(self, length: int = FRAMES_LOGGED) -> None:
        """Keep so many frames."""
        self.entries: deque[FrameEntry] = deque(maxlen=length)
        self.omitted = 0
        self._waiting: dict[tuple[int, int], list[FrameEntry]] = {}  # by message and block

    def add(self, event: Event) -> None:
        """Take in an event of the receiver."""
        match event:
            case FrameReport():
                self._add_frame(event)
            case BlockReceived():
                for entry in self._waiting.pop((event.message_id, event.block_index), ()):
                    entry.payload_ok = event.data is not None
            case MessageReceived():
                for key in [key for key in self._waiting if key[0] == event.message_id]:
                    del self._waiting[key]

    def _add_frame(self, frame: FrameReport) -> None:
        header = frame.header
        entry = FrameEntry(
            sample_index=frame.sample_index,
            detected=True,
            header_ok=frame.header_ok,
            payload_ok=False,
            snr_db=frame.snr_db,
            evm_db=frame.evm_db,
            cfo_hz=frame.cfo_hz,
            clock_ppm=frame.clock_ppm,
            message_id=None if header is None else header.message_id,
            block_index=None if header is None else header.block_index,
            frame_index=None if header is None else header.frame_index,
            failure=frame.failure,
        )
        self.omitted += len(self.entries) == self.entries.maxlen
        self.entries.append(entry)
        if header is not None and frame.payload_used:
            self._waiting.setdefault((header.message_id, header.block_index), []).append(entry)


@dataclass(frozen=True)
class ReceivedImage:
    """What became of a message.

    Attributes:
        name: the file that was written, or None.
        exact: every pixel came back.
        stage_failed: None, or the stage that failed, "source" for the codec.
        message_id: the sender's number.
        mcs: modulation-and-coding scheme, or None where no frame of the message was read.
        bytes: length of the message.
        blocks: transport blocks.
        block_errors: of them not received.
        snr_db: estimated Es/N0.
        evm_db: error vector magnitude of known symbols.
    """

    name: str | None
    exact: bool
    stage_failed: str | None
    message_id: int
    mcs: str | None = None
    bytes: int | None = None
    blocks: int | None = None
    block_errors: int | None = None
    snr_db: float | None = None
    evm_db: float | None = None


@dataclass
class ReceiveReport:
    """What arrived so far.

    Attributes:
        statistics: the receiver's totals.
        images: one for each message, in the order of their end. Senders count their messages, so
            those of which nothing was heard are among them.
        log: of the frames.
    """

    statistics: ReceiverStatistics
    images: list[ReceivedImage] = field(default_factory=list)
    log: FrameLog = field(default_factory=FrameLog)

    @property
    def exact(self) -> bool:
        """Something arrived, and everything that did was exact."""
        return bool(self.images) and all(image.exact for image in self.images)

    def to_json(self) -> dict[str, object]:
        """The figures by their names in the command's JSON."""
        return {
            "images": [asdict(image) for image in self.images],
            "frames": [asdict(entry) for entry in self.log.entries],
            "frames_omitted": self.log.omitted,
            "receiver": asdict(self.statistics),
        }


Save = Callable[[Picture], str]
Observer = Callable[[ReceiveReport, ReceivedImage | None], None]


def receive(
    source: SampleSource,
    config: ReceiveConfig,
    codec: Codec,
    save: Save,
    stop: Stop,
    observe: Observer = lambda report, image: None,
) -> ReceiveReport:
    """Receives until the source ends, enough messages are complete, or `stop` says so.

    After a stop what had arrived is decoded still. Images are decoded beside the reception, so that
    the source does not wait for the codec.

    Args:
        source: where samples come from.
        config: how they were made.
        codec: source codec.
        save: writes a picture; returns the file's name.
        stop: asked between waits.
        observe: called with the report after every portion of samples, and with every image.
    """
    receiver = config.make_receiver()
    report = ReceiveReport(receiver.statistics)
    waiting: deque[Future[ReceivedImage]] = deque()
    complete = 0
    last_id: int | None = None

    def collect(most: int) -> None:
        """Take over images that are done, and wait for some if more than `most` are not."""
        while waiting and (waiting[0].done() or len(waiting) > most):
            image = waiting.popleft().result()
            report.images.append(image)
            observe(report, image)

    with ThreadPoolExecutor(1) as codec_thread:

        def handle(events: list[Event]) -> None:
            nonlocal complete, last_id
            for event in events:
                report.log.add(event)
                if isinstance(event, FrameReport) and event.header is not None:
                    # Frames come in the order of their messages, which may end in another one.
                    for missing in _skipped(last_id, event.header.message_id):
                        waiting.append(codec_thread.submit(_unheard, missing))
                    last_id = event.header.message_id
                if isinstance(event, MessageReceived):
                    complete += event.data is not None
                    waiting.append(codec_thread.submit(_image, event, codec, save))

        for samples in samples_of(source, stop):
            handle(receiver.process(samples))
            collect(_IMAGES_WAITING)
            observe(report, None)
            if config.count is not None and complete >= config.count:
                break
        else:
            handle(receiver.flush())
        collect(0)
    return report


def _skipped(last_id: int | None, message_id: int) -> list[int]:
    """The numbers between those of two frames' messages; none where the sender began anew."""
    if last_id is None:
        return []
    jump = (message_id - last_id) % _MESSAGE_IDS
    return [(last_id + k) % _MESSAGE_IDS for k in range(1, jump if jump <= _LARGEST_JUMP else 1)]


def _unheard(message_id: int) -> ReceivedImage:
    return ReceivedImage(None, False, FAILURE_STAGES[0], message_id)


def _image(message: MessageReceived, codec: Codec, save: Save) -> ReceivedImage:
    """Decodes a message and writes the picture, if it is complete."""
    name, stage = None, message.stage_failed
    if message.data is not None:
        try:
            name = save(codec.decode_pictures([message.data])[0])
        except CorruptStream:
            stage = SOURCE_STAGE
    return ReceivedImage(
        name=name,
        exact=name is not None,
        stage_failed=stage,
        message_id=message.message_id,
        mcs=message.mcs,
        bytes=message.message_bytes,
        blocks=message.block_count,
        block_errors=message.block_errors,
        snr_db=message.snr_db,
        evm_db=message.evm_db,
    )
