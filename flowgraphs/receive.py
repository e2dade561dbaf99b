"""Images from a source of samples: the receiver, the codec behind it, and a log of all frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

from flowgraphs.frame_log import FrameLog, LoggedFrame
from flowgraphs.link import SOURCE_STAGE, WAVEFORMS
from flowgraphs.stream import SampleSource, Stop, samples_of
from phy import (
    FAILURE_STAGES,
    Event,
    FrameReport,
    MessageReceived,
    Receiver,
    ReceiverConfig,
    ReceiverStatistics,
)
from phy.ofdm import Ofdm
from phy.single_carrier import SingleCarrier
from source_codec import Codec, CorruptStream
from source_codec.picture import Picture

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
        full_scale: amplitude of I or Q at which the converter clips; None if it is not known.
        carrier_offset_hz: largest carrier offset that is expected. The search reaches 0.1 cycles
            per sample, and further if that is asked for, as far as the sample rate has room.
    """

    waveform: str = "single-carrier"
    symbol_rate: float = 1e6
    count: int | None = None
    full_scale: float | None = None
    carrier_offset_hz: float = 0.0

    def __post_init__(self) -> None:
        if self.waveform not in WAVEFORMS:
            raise ValueError(f"unknown waveform {self.waveform!r}; one of {', '.join(WAVEFORMS)}")
        if not self.symbol_rate > 0:
            raise ValueError(f"the symbol rate must be positive, not {self.symbol_rate:g}")
        self.make_receiver()

    def make_receiver(self) -> Receiver:
        """The receiver."""
        waveform = WAVEFORMS[self.waveform]
        if isinstance(waveform, SingleCarrier | Ofdm):
            reach = min(self._cycles_per_sample, waveform.pulse.carrier_room)
            waveform = replace(waveform, carrier_reach=max(waveform.carrier_reach, reach))
        return Receiver(
            ReceiverConfig(
                waveform=waveform,
                symbol_rate_hz=self.symbol_rate,
                full_scale=self.full_scale,
            )
        )

    @property
    def _cycles_per_sample(self) -> float:
        rate = self.symbol_rate * WAVEFORMS[self.waveform].samples_per_symbol
        return self.carrier_offset_hz / rate

    @property
    def reaches(self) -> bool:
        """Whether the search goes as far as the carrier offset that is expected."""
        waveform = WAVEFORMS[self.waveform]
        if isinstance(waveform, SingleCarrier | Ofdm):
            return self._cycles_per_sample <= waveform.pulse.carrier_room
        return not self.carrier_offset_hz


@dataclass(frozen=True)
class ReceivedImage:
    """What became of a message.

    Attributes:
        name: the file that was written, or None.
        exact: every pixel came back, or, where no codec ran, every byte of the message.
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
            "frames": [entry.to_json() for entry in self.log.entries],
            "frames_omitted": self.log.omitted,
            "receiver": asdict(self.statistics),
        }


Save = Callable[[Picture], str]
Heard = LoggedFrame | MessageReceived
Observer = Callable[[ReceiveReport, ReceivedImage | None], None]


def receive(
    source: SampleSource,
    config: ReceiveConfig,
    codec: Codec | None,
    save: Save,
    stop: Stop,
    observe: Observer = lambda report, image: None,
    hear: Callable[[Heard], None] = lambda heard: None,
) -> ReceiveReport:
    """Receives until the source ends, enough messages are complete, or `stop` says so.

    After a stop what had arrived is decoded still. Images are decoded beside the reception, so that
    the source does not wait for the codec.

    Args:
        source: where samples come from.
        config: how they were made.
        codec: source codec; None leaves messages undecoded, and saves none.
        save: writes a picture; returns the file's name.
        stop: asked between waits.
        observe: called with the report after every portion of samples, and with every image.
        hear: called with every frame, once it is known what became of it, and with every message.
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

    def pass_on(frames: list[LoggedFrame]) -> None:
        for frame in frames:
            hear(frame)

    with ThreadPoolExecutor(1) as codec_thread:

        def handle(events: list[Event]) -> None:
            nonlocal complete, last_id
            for event in events:
                pass_on(report.log.add(event))
                if isinstance(event, FrameReport) and event.header is not None:
                    # Frames come in the order of their messages, which may end in another one.
                    for missing in _skipped(last_id, event.header.message_id):
                        waiting.append(codec_thread.submit(_unheard, missing))
                    last_id = event.header.message_id
                if isinstance(event, MessageReceived):
                    hear(event)
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
        pass_on(report.log.flush())
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


def _image(message: MessageReceived, codec: Codec | None, save: Save) -> ReceivedImage:
    """Decodes a message and writes the picture, if it is complete."""
    name, stage = None, message.stage_failed
    if message.data is not None and codec is not None:
        try:
            name = save(codec.decode_pictures([message.data])[0])
        except CorruptStream:
            stage = SOURCE_STAGE
    return ReceivedImage(
        name=name,
        exact=stage is None,
        stage_failed=stage,
        message_id=message.message_id,
        mcs=message.mcs,
        bytes=message.message_bytes,
        blocks=message.block_count,
        block_errors=message.block_errors,
        snr_db=message.snr_db,
        evm_db=message.evm_db,
    )
