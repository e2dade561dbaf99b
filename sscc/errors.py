"""Errors of the command line itself."""


class InputError(Exception):
    """What the user gave cannot be used; the message says which input, why, and what to do."""
