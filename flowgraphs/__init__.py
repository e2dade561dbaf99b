"""Flowgraphs: the toolkit's blocks joined to whole links."""

from flowgraphs.link import LinkConfig, LinkReport, run_link

__all__ = ["LinkConfig", "LinkReport", "run_link"]
