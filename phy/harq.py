"""Hybrid ARQ: a message is sent in rounds until its receiver has acknowledged all of it.

::

    sender                                  receiver
    round 1: all blocks, rv 0      ------>  decodes what it can, keeps the soft bits of the rest
                                   <------  feedback: which blocks are missing (or lost)
    round 2: missing blocks, rv 2  ------>  adds the soft bits, decodes again
                                   <------  feedback: complete

The order 0, 2, 3, 1 of the redundancy versions is that of NR (TS 38.321, 5.4.1). An order of (0,)
sends the same bits again, which is Chase combining. A block goes on to its next version only when
a round with it was answered: versions 2 and 1 hardly decode alone, and of a round without an answer
the receiver may have heard nothing.

The receiving end is a plain :class:`phy.receiver.Receiver`: its :class:`phy.message.FeedbackDue`
carries the :class:`phy.feedback.Acknowledgement`, the bytes of which a
:class:`phy.transmitter.Transmitter` of a robust scheme (:data:`FEEDBACK_MCS`) sends back as a
message of its own. :class:`HarqSender` is the sending end. It owns no clock and no radio: it is
told the place in the stream of samples, and what was received.

If feedback does not come in time, the round or the feedback was lost. The next round then sends a
single block, the first of those that may be missing: an answer to it says all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from phy.errors import FeedbackError
from phy.feedback import DIGEST_PREFIX_BYTES, Acknowledgement
from phy.frame import MAX_ROUNDS, ComplexArray
from phy.ldpc.rate_matching import REDUNDANCY_VERSIONS
from phy.message import message_digest
from phy.transmitter import Transmitter

FEEDBACK_MCS = "bpsk-1/5"
"""The scheme of the feedback: the most robust one."""


@dataclass(frozen=True)
class HarqConfig:
    """Parameters of a sender.

    Attributes:
        max_rounds: transmissions of the message or of parts of it, 1 ... 15.
        rv_order: redundancy versions of a block's transmissions, over and over.
        timeout_samples: silence behind a round after which its feedback counts as lost; longer than
            feedback, the way there and back, and two frames of the message.

    Raises:
        ValueError: a number outside its range, or no redundancy version.
    """

    max_rounds: int = 4
    rv_order: tuple[int, ...] = (0, 2, 3, 1)
    timeout_samples: int = 2**16

    def __post_init__(self) -> None:
        if not 1 <= self.max_rounds <= MAX_ROUNDS:
            raise ValueError(f"max_rounds must be 1 ... {MAX_ROUNDS}, not {self.max_rounds}")
        if not self.rv_order or not set(self.rv_order) <= set(REDUNDANCY_VERSIONS):
            raise ValueError("the order of redundancy versions must be of 0, 1, 2, 3")
        if self.timeout_samples < 1:
            raise ValueError(f"timeout_samples must be positive, not {self.timeout_samples}")


class HarqState(Enum):
    """What a sender does."""

    READY = "ready"
    """The next round can be sent."""
    WAITING = "waiting"
    """A round was sent, and feedback is due."""
    DELIVERED = "delivered"
    """The receiver has acknowledged the whole message."""
    GIVEN_UP = "given up"
    """The rounds are used up. The message may have arrived; the sender does not know."""


class HarqSender:
    """Sends one message in rounds.

    Attributes:
        state: what it does now.
        rounds: sent so far.
        blocks_retransmitted: transmissions of blocks beyond the first of each.
        unanswered_rounds: without feedback in time.
        foreign_feedback: messages that were no feedback, or of another message or an earlier round.
        channel_uses: channel symbols sent so far.
    """

    def __init__(
        self,
        transmitter: Transmitter,
        message: bytes,
        message_id: int = 0,
        config: HarqConfig | None = None,
    ) -> None:
        """Prepare to send.

        Arguments:
            transmitter: makes the frames.
            message: the message.
            message_id: 0 ... 65535; other than that of the messages just before.
            config: parameters; the defaults of :class:`HarqConfig` if not given.

        Raises:
            MessageLengthError: the message is too long for the rate and depth.
            ValueError: the identifier is out of range.
        """
        self.config = config or HarqConfig()
        self.layout = transmitter.layout(len(message))
        self.layout.header(message_id, 0, 0)
        self._transmitter = transmitter
        self._message = message
        self._message_id = message_id
        self._digest_prefix = message_digest(message)[:DIGEST_PREFIX_BYTES]
        self._sent = [False] * self.layout.block_count
        self._answered = [0] * self.layout.block_count  # transmissions in answered rounds
        self._unanswered: tuple[int, ...] = ()  # blocks of the round, until it is answered
        self._next_blocks = tuple(range(self.layout.block_count))
        self._missing_blocks = self._next_blocks
        self._acknowledged_round = 0
        self._deadline = 0
        self.state = HarqState.READY
        self.rounds = 0
        self.blocks_retransmitted = 0
        self.unanswered_rounds = 0
        self.foreign_feedback = 0
        self.channel_uses = 0

    @property
    def missing_blocks(self) -> tuple[int, ...]:
        """Blocks that the receiver is not known to have."""
        return self._missing_blocks

    def next_round(self, now: int) -> Iterator[ComplexArray]:
        """The frames of the next round.

        Arguments:
            now: place in the stream, in samples, at which its first sample is sent.

        Yields:
            The samples of a frame at a time; behind them comes the transmitter's flush.

        Raises:
            ValueError: the sender is not ready.
        """
        if self.state is not HarqState.READY:
            raise ValueError(f"no round can be sent: {self.state.value}")
        order = self.config.rv_order
        rv = {block: order[self._answered[block] % len(order)] for block in self._next_blocks}
        for block in rv:
            self.blocks_retransmitted += self._sent[block]
            self._sent[block] = True
        self._unanswered = tuple(rv)
        self.rounds += 1
        waveform = self._transmitter.config.waveform
        frames = len(rv) * self.layout.frame_count
        symbols = frames * waveform.frame_symbols(self.layout.data_symbols)
        self.channel_uses += symbols
        self._deadline = now + symbols * waveform.samples_per_symbol + self.config.timeout_samples
        self.state = HarqState.WAITING
        return self._transmitter.send_round(self._message, self._message_id, self.rounds, rv)

    def feedback(self, data: bytes) -> None:
        """Take in a message from the other direction.

        Arguments:
            data: its bytes; what is not feedback to this message is counted, and else ignored.
        """
        try:
            heard = Acknowledgement.from_bytes(data)
        except FeedbackError:
            self.foreign_feedback += 1
            return
        mine = (self._message_id, self.layout.message_bytes, self.layout.block_count)
        theirs = (heard.message_id, heard.message_bytes, heard.block_count)
        foreign = theirs != mine or not self._acknowledged_round <= heard.round <= self.rounds
        if foreign or (heard.complete and heard.digest_prefix != self._digest_prefix):
            self.foreign_feedback += 1
            return
        if self.state is HarqState.DELIVERED:
            return
        self._acknowledged_round = heard.round
        self._missing_blocks = heard.missing_blocks
        if heard.complete:
            self.state = HarqState.DELIVERED
        elif heard.round == self.rounds:
            for block in self._unanswered:
                self._answered[block] += 1
            self._unanswered = ()
            self._end_round(self._missing_blocks)

    def expire(self, now: int) -> None:
        """Note the place in the stream: feedback that has not come by its deadline is lost."""
        if self.state is HarqState.WAITING and now >= self._deadline:
            self.unanswered_rounds += 1
            self._end_round(self._missing_blocks[:1])

    def _end_round(self, next_blocks: tuple[int, ...]) -> None:
        self._next_blocks = next_blocks
        ready = self.rounds < self.config.max_rounds
        self.state = HarqState.READY if ready else HarqState.GIVEN_UP
