"""A channel between a source and a sink: what :mod:`phy` simulates, on samples that pass by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowgraphs.path import PathConfig
from flowgraphs.stream import (
    ComplexArray,
    EndpointError,
    SampleSink,
    SampleSource,
    Stop,
    samples_of,
    write_all,
)
from flowgraphs.supervision import GRACE_S, Grace, Pacer
from phy.impairments import SampleBlock
from phy.random_process import child_seed


@dataclass(frozen=True)
class EmulatorConfig(PathConfig):
    """Parameters of an emulated channel: those of a path between waveforms with samples."""

    channel: str = "awgn"
    waveform: str = "single-carrier"

    def block(self) -> SampleBlock:
        """The path as a stream object in its initial state."""
        return _PathBlock(self)


class _PathBlock(SampleBlock):
    """The stream object of :class:`EmulatorConfig`."""

    def __init__(self, config: EmulatorConfig) -> None:
        root = np.random.SeedSequence(config.seed)
        self._path = config.make_path(child_seed(root, 0), child_seed(root, 1))

    @property
    def clipped_samples(self) -> int:
        """See :attr:`phy.impairments.SampleBlock.clipped_samples`."""
        return self._path.clipped_samples

    def flush(self) -> ComplexArray:
        """See :meth:`phy.impairments.SampleBlock.flush`."""
        return self._path.flush()

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return self._path.carry(samples)


@dataclass
class EmulatorReport:
    """What passed so far.

    Attributes:
        samples_in: samples that came.
        samples_out: samples that the sink passed on.
        samples_late: samples for which there was no time, in real time.
        complete: all that came went out.
        failure: why the sink took no more, or None.
    """

    samples_in: int = 0
    samples_out: int = 0
    samples_late: int = 0
    complete: bool = True
    failure: str | None = None


Observer = Callable[[EmulatorReport], None]


def emulate(
    source: SampleSource,
    sink: SampleSink,
    block: SampleBlock,
    stop: Stop,
    pacer: Pacer | None = None,
    observe: Observer = lambda report: None,
) -> EmulatorReport:
    """Passes samples through a channel until the source ends or `stop` says so.

    After a stop what had arrived is passed on still, if the sink takes it within
    :data:`flowgraphs.supervision.GRACE_S`.

    Args:
        source: where samples come from.
        sink: where they go.
        block: the channel, or any other stage or chain of stages.
        stop: asked between waits.
        pacer: holds the flow back to real time.
        observe: called after every portion.
    """
    report = EmulatorReport()
    give_up = Grace(stop, GRACE_S)

    def pass_on(samples: ComplexArray) -> None:
        in_time = None if stop() else pacer  # after a stop, what is left goes at once
        try:
            report.complete &= write_all(sink, samples, give_up, in_time) == samples.size
        finally:
            report.samples_out = sink.status.samples
            report.samples_late = 0 if pacer is None else pacer.late_samples

    try:
        for samples in samples_of(source, stop):
            report.samples_in += samples.size
            pass_on(block.process(samples))
            observe(report)
        pass_on(block.flush())
        sink.finish(give_up)
    except EndpointError as error:
        report.complete, report.failure = False, str(error)
    return report
