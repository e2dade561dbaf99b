"""Two directions of a simulated link: a message in rounds, and feedback on the way back.

The link is half duplex: while one end sends, it does not listen. Both channels age with every
sample, whoever sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from flowgraphs.impairments import LinkPath
from phy import Event, MessageReceived, Receiver, Transmitter
from phy.harq import HarqSender, HarqState
from phy.message import FeedbackDue
from phy.stream_report import StreamReport

_SILENCE = np.zeros(2048, dtype=np.complex64)  # listened to at a time


class Direction:
    """One way: the path between two radios, and the receiver.

    Attributes:
        samples: sent so far.
        events: of the receiver.
        fading: the channel's gain at every `fading_step`-th sample, complex64 chunks.
    """

    def __init__(self, path: LinkPath, receiver: Receiver, fading_step: int = 1 << 16) -> None:
        """Join the parts, each in its initial state."""
        self._path = path
        self._receiver = receiver
        self._fading_step = fading_step
        self.samples = 0
        self.events: list[Event] = []
        self.fading: list[NDArray[np.complex64]] = []

    @property
    def stream_report(self) -> StreamReport:
        """What the receiver says of the whole stream."""
        return self._receiver.stream_report

    @property
    def clipped_samples(self) -> int:
        """Samples beyond full scale of a converter at either end."""
        return self._path.clipped_samples

    def carry(self, samples: NDArray[np.complex64]) -> list[Event]:
        """Send samples; returns what the receiver makes of them."""
        output = self._path.process(samples)
        events = self._receiver.process(output.samples, output.gains)
        self.events += events
        self.fading.append(output.gains[-self.samples % self._fading_step :: self._fading_step])
        self.samples += len(samples)
        return events

    def age(self, samples: int) -> None:
        """Let time pass in which nobody listens."""
        self._path.process(np.zeros(samples, dtype=np.complex64))

    def flush(self) -> None:
        """End the stream."""
        rest = self._path.flush()
        if rest.size:
            self.events += self._receiver.process(rest)
        self.events += self._receiver.flush()


@dataclass(frozen=True)
class Exchange:
    """What it took to bring a message over.

    Attributes:
        rounds: transmissions of the message or of parts of it.
        blocks_retransmitted: transmissions of blocks beyond the first of each.
        feedback_sent: acknowledgements sent.
        feedback_lost: of them not received.
        forward_channel_uses: channel symbols of the message.
        return_channel_uses: channel symbols of the feedback.
    """

    rounds: int
    blocks_retransmitted: int
    feedback_sent: int
    feedback_lost: int
    forward_channel_uses: int
    return_channel_uses: int


def send_in_rounds(
    sender: HarqSender,
    transmitter: Transmitter,
    answering: Transmitter,
    there: Direction,
    back: Direction,
    progress: Callable[[], None],
) -> Exchange:
    """Sends a message until it is acknowledged or the rounds are used up.

    Args:
        sender: of the message.
        transmitter: the one that the sender uses.
        answering: the other end's, for the feedback.
        there: the direction of the message.
        back: the direction of the feedback.
        progress: called after every frame.
    """
    sent = heard = return_channel_uses = 0
    answers: deque[NDArray[np.complex64]] = deque()

    def answer(events: list[Event]) -> None:
        nonlocal sent, return_channel_uses
        for event in events:
            if isinstance(event, FeedbackDue):
                message = event.acknowledgement.to_bytes()
                answers.extend(answering.send(message, event.acknowledgement.message_id))
                answers.append(answering.flush())
                sent += 1
                return_channel_uses += answering.channel_uses(len(message))

    while sender.state is HarqState.READY:
        frames = sender.next_round(there.samples)
        for samples in chain(frames, (transmitter.flush() for _ in range(1))):
            answer(there.carry(samples))
            back.age(len(samples))
            progress()
        while sender.state is HarqState.WAITING:
            samples = answers.popleft() if answers else _SILENCE
            answer(there.carry(np.zeros(len(samples), dtype=np.complex64)))
            for event in back.carry(samples):
                if isinstance(event, MessageReceived) and event.data is not None:
                    heard += 1
                    sender.feedback(event.data)
            sender.expire(there.samples)
    return Exchange(
        sender.rounds,
        sender.blocks_retransmitted,
        sent,
        sent - heard,
        sender.channel_uses,
        return_channel_uses,
    )
