"""Errors that a receiver raises when what it was given cannot be a valid frame.

Wrong arguments of the *caller* are ``ValueError``; everything that noise, loss or a hostile
transmitter can cause is a :class:`FrameError`, so that a receiving loop has one thing to catch.
"""


class FrameError(Exception):
    """A received frame, or what a received frame says, cannot be used."""


class HeaderError(FrameError):
    """A header failed its CRC, or carries fields that contradict each other."""


class FeedbackError(FrameError):
    """A received acknowledgement failed its CRC, or says what no receiver says."""
