"""The log of received frames: their reports, completed while the stream goes on."""

import numpy as np

from flowgraphs.frame_log import FrameLog, LoggedFrame
from phy import Receiver, ReceiverConfig, Transmitter, TransmitterConfig
from phy.frame_report import complete_reports
from phy.harq import HarqSender
from phy.single_carrier import SingleCarrier


def test_the_log_completes_reports_as_if_it_knew_the_whole_stream() -> None:
    """Overlapping frames, damaged ones, and rounds of retransmission, frame by frame."""
    rng = np.random.default_rng(12)
    short = TransmitterConfig("qpsk-1/2", max_data_symbols=300, depth=3, waveform=SingleCarrier())
    transmitter = Transmitter(short)
    one = np.concatenate([*transmitter.send(rng.bytes(200), 4), transmitter.flush()])
    damaged = one.copy()
    damaged[9000:16_000] = 0
    above = np.concatenate([one, np.zeros(1500, np.complex64)])
    above[1500:] += one * np.float32(5)
    sender = HarqSender(transmitter, rng.bytes(150), 7)
    rounds = [*sender.next_round(0), transmitter.flush()]
    rounds[0] = np.zeros_like(rounds[0])
    stream = np.concatenate([one, damaged, above, *rounds, np.zeros(9000, np.complex64), one])
    noise = rng.standard_normal(2 * stream.size).view(complex) * np.sqrt(0.05 / 2)
    receiver = Receiver(ReceiverConfig(waveform=SingleCarrier(), timeout_samples=60_000))
    events = receiver.process(stream + noise) + receiver.flush()
    expected = complete_reports(events)
    log = FrameLog()
    passed_on: list[LoggedFrame] = []
    for event in events:
        passed_on += log.add(event)
    early = len(passed_on)
    passed_on += log.flush()
    assert [repr(frame.report) for frame in passed_on] == [repr(report) for report in expected]
    assert early > 0.5 * len(expected)
    assert any(report.overlaps is not None for report in expected)
    assert any(report.payload_used and not report.payload_ok for report in expected)
    assert any(report.header is not None and report.header.round for report in expected)
    for frame in passed_on:
        assert (frame.block_digest is not None) is bool(frame.report.payload_ok)
