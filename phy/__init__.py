"""The physical layer: from message bytes to baseband samples and back.

The block diagram, in the order of transmission::

    message -> message.py         transport blocks and frames, digest
            -> transport_block.py CRC, segmentation, LDPC (crc.py, segmentation.py, ldpc/)
            -> interleaver.py, scrambling.py
            -> modulation.py      symbols (mcs.py: which constellation with which code rate)
            -> frame.py           preamble (preamble.py), header, pilots (pilots.py)
            -> waveform.py        samples: symbol_spaced.py, single_carrier.py (pulse_shaping.py),
                                  or ofdm.py (ofdm_grid.py)
    channel.py                    noise and fading; transmitter.py and receiver.py are its ends
    chain.py                      the same at the level of samples: tapped_delay_line.py, and what
                                  radios do to samples, impairments/
    detection.py                  frames in a stream
            -> acquisition.py     the frame's preamble
            -> synchronization.py time, carrier and clock of a frame; OFDM: ofdm_tracking.py
            -> estimation.py      channel and noise from known symbols; OFDM: ofdm_estimation.py;
                                  single carrier over multipath: dispersion.py
                                  (path_estimation.py, equalization.py)
            -> modulation.py ... message.py, backwards
    frame_report.py               what became of each frame (sample_statistics.py, error_profile.py,
                                  llr_statistics.py), stream_report.py of a stream without any
            -> diagnosis.py       why it was lost, in words

harq.py sends a message in rounds until feedback.py's acknowledgements say that all of it arrived.
theory.py holds the closed forms that the simulations are measured by.

Conventions: LLRs are log p(bit = 0) / p(bit = 1), positive means 0. Bits are uint8 arrays. Samples
are complex64 with unit mean power, at one or more per symbol as the waveform says. An SNR says
which: `es_n0_db` is symbol energy over noise density.

Examples:
    >>> from phy import Receiver, Transmitter, MessageReceived, rayleigh_jakes
    >>> channel = rayleigh_jakes(es_n0_db=20, doppler_hz=50, seed=1)
    >>> receiver = Receiver()
    >>> events = []
    >>> for frame in Transmitter().send(b"every byte returns exactly"):
    ...     events += receiver.process(channel.process(frame).samples)
    >>> events += receiver.flush()
    >>> [event.data for event in events if isinstance(event, MessageReceived)]
    [b'every byte returns exactly']
"""

from phy.chain import (
    Chain,
    Propagation,
    RadioPath,
    ReceiverImpairments,
    TransmitterImpairments,
)
from phy.channel import (
    Channel,
    ChannelOutput,
    awgn,
    rayleigh_block,
    rayleigh_iid,
    rayleigh_jakes,
)
from phy.diagnosis import diagnose, most_likely_cause
from phy.errors import FeedbackError, FrameError, HeaderError
from phy.feedback import Acknowledgement
from phy.frame import FrameFormat, FrameHeader
from phy.frame_report import FrameReport, complete_reports
from phy.harq import HarqConfig, HarqSender, HarqState
from phy.ldpc import LdpcCode, LdpcResult
from phy.mcs import MCS_TABLE, ModulationCodingScheme, get_mcs, mcs_names
from phy.message import (
    FAILURE_STAGES,
    BlockReceived,
    FeedbackDue,
    MessageLayout,
    MessageReceived,
    plan_message,
)
from phy.modulation import MODULATIONS, Modulation
from phy.receiver import (
    Event,
    Receiver,
    ReceiverConfig,
    ReceiverStatistics,
    failed_stage,
)
from phy.stream_report import StreamReport
from phy.tapped_delay_line import TappedDelayLine
from phy.theory import ber_awgn, ber_rayleigh
from phy.transmitter import Transmitter, TransmitterConfig
from phy.transport_block import TransportBlockCode, TransportBlockResult

__all__ = [
    "FAILURE_STAGES",
    "MCS_TABLE",
    "MODULATIONS",
    "Acknowledgement",
    "BlockReceived",
    "Chain",
    "Channel",
    "ChannelOutput",
    "Event",
    "FeedbackDue",
    "FeedbackError",
    "FrameError",
    "FrameFormat",
    "FrameHeader",
    "FrameReport",
    "HarqConfig",
    "HarqSender",
    "HarqState",
    "HeaderError",
    "LdpcCode",
    "LdpcResult",
    "MessageLayout",
    "MessageReceived",
    "Modulation",
    "ModulationCodingScheme",
    "Propagation",
    "RadioPath",
    "Receiver",
    "ReceiverConfig",
    "ReceiverImpairments",
    "ReceiverStatistics",
    "StreamReport",
    "TappedDelayLine",
    "Transmitter",
    "TransmitterConfig",
    "TransmitterImpairments",
    "TransportBlockCode",
    "TransportBlockResult",
    "awgn",
    "ber_awgn",
    "ber_rayleigh",
    "complete_reports",
    "diagnose",
    "failed_stage",
    "get_mcs",
    "mcs_names",
    "most_likely_cause",
    "plan_message",
    "rayleigh_block",
    "rayleigh_iid",
    "rayleigh_jakes",
]
