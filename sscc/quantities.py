"""Quantities as the command line takes them: numbers with the field's units and notations.

Examples:
    >>> from sscc.quantities import phase_noise_mask, seconds
    >>> seconds("300ns"), seconds("2e-6")
    (3e-07, 2e-06)
    >>> phase_noise_mask("-80@1e3,-110@1e6")
    ((1000.0, -80.0), (1000000.0, -110.0))
"""

from __future__ import annotations

import math

import typer

_TIME_UNITS = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}  # per second, exact


def number(text: str) -> float:
    """A finite number.

    Raises:
        typer.BadParameter: anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a number")
    return value


def seconds(text: str) -> float:
    """A time with its unit, ns, us, ms or s; without one in seconds.

    Raises:
        typer.BadParameter: not a number, or a negative one.
    """
    stripped = text.strip()
    unit = next((unit for unit in _TIME_UNITS if stripped.endswith(unit)), "")
    value = number(stripped.removesuffix(unit)) / _TIME_UNITS.get(unit, 1.0)
    if value < 0:
        raise typer.BadParameter(f"{text!r} is negative")
    return value


def two_times(text: str) -> tuple[float, float]:
    """Two times, separated by a comma.

    Raises:
        typer.BadParameter: not two times.
    """
    first, second = _split(text, 2)
    return seconds(first), seconds(second)


def imbalance(text: str) -> tuple[float, float]:
    """Gain in dB and phase in degrees, separated by a comma.

    Raises:
        typer.BadParameter: not two numbers.
    """
    gain, phase = _split(text, 2)
    return number(gain), number(phase)


def phase_noise_mask(text: str) -> tuple[tuple[float, float], ...]:
    """A phase noise mask, LEVEL@OFFSET in dBc/Hz and Hz, several separated by commas.

    Returns:
        Pairs of offset and level, by ascending offset.

    Raises:
        typer.BadParameter: not such pairs.
    """
    pairs = []
    for point in text.split(","):
        level, offset = _split(point, 2, "@")
        pairs.append((number(offset), number(level)))
    return tuple(sorted(pairs))


def gain_settings(text: str) -> dict[str, float]:
    """Settings of gain stages, NAME=SETTING, several separated by commas.

    Returns:
        Settings by name; that of a lone number, for a radio with one stage, is empty.

    Raises:
        typer.BadParameter: not such settings, or a name that comes twice.
    """
    gains: dict[str, float] = {}
    for item in text.split(","):
        name, _, setting = item.rpartition("=")
        if name.strip() in gains:
            raise typer.BadParameter(f"{text!r} has the gain {name.strip()!r} twice")
        gains[name.strip()] = number(setting)
    return gains


def _split(text: str, count: int, separator: str = ",") -> list[str]:
    parts = text.split(separator)
    if len(parts) != count:
        raise typer.BadParameter(f"{text!r} is not {count} numbers with {separator!r} between them")
    return parts
