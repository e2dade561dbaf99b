"""``sscc profiles``: what the profiles say, for people and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_profiles.limits import in_hertz
from hw_profiles.profile import (
    GainSign,
    GainStage,
    HardwareProfile,
    ProfileError,
    Range,
    load_profile,
    profile_names,
)

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = (
    "profile", "frequencies", "rates", "duplex", "bits", "wire", "clock",
)  # fmt: skip
_NARROWEST = 15, 12, 10, 7, 5, 6, 7  # in a terminal of 80 columns, lines break between words


def rows(profiles: Sequence[HardwareProfile]) -> list[list[str]]:
    """A row of text per profile, in the order of the table's columns."""
    return [_row(profile) for profile in profiles]


def table(profiles: Sequence[HardwareProfile]) -> Table:
    """The profiles at a glance; receiver / transmitter where they differ."""
    from rich.table import Table

    grid = Table(box=None, padding=(0, 1, 0, 0))
    for heading, narrowest in zip(_COLUMNS, _NARROWEST, strict=True):
        widest = 8 if heading == "wire" else None
        grid.add_column(heading, min_width=narrowest, max_width=widest)
    for row in rows(profiles):
        grid.add_row(*row)
    return grid


def markdown(profiles: Sequence[HardwareProfile]) -> str:
    """The same table for the documentation."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows(profiles)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def description_lines(profile: HardwareProfile) -> list[str]:
    """Every fact of a profile, with its source behind it where it is a number."""
    facts = [(key, value, _source(profile, key)) for key, value in _facts(profile, "")]
    width = max(len(key) for key, _, _ in facts)
    lines, following = [], [*facts[1:], ("", "", None)]
    for (key, value, source), (_, _, next_source) in zip(facts, following, strict=True):
        lines.append(f"{key:{width}}  {value}")
        if source and source != next_source:  # facts of one source stand together
            lines.append(f"{'':{width}}    {source}")
    return lines


def checked(names: Sequence[str]) -> list[dict[str, Any]]:
    """Tries to load profiles.

    Args:
        names: of profiles or files; all bundled ones if there are none.

    Returns:
        For each its name, whether it is valid, and the reason if not.
    """
    results = []
    for name in names or profile_names():
        try:
            load_profile(Path(name) if name.endswith(".toml") else name)
        except ProfileError as error:
            results.append({"name": name, "valid": False, "reason": str(error)})
        else:
            results.append({"name": name, "valid": True, "reason": None})
    return results


def to_json(profile: HardwareProfile) -> dict[str, Any]:
    """A profile as JSON's types; what is not known is null."""
    return asdict(profile)


def _row(profile: HardwareProfile) -> list[str]:
    rates = profile.sample_rate
    choices = ", ".join(in_hertz(rate) for rate in rates.choices_hz)
    directions = [direction for direction in (profile.rx, profile.tx) if direction is not None]

    def both(*values: str) -> str:
        return " / ".join(dict.fromkeys(values))

    tolerance = profile.clock.tolerance_ppm
    return [
        profile.name,
        both(*(_extents(direction.frequency) for direction in directions)),
        choices or _extents(rates.ranges),
        str(profile.duplex).replace("receive", "rx").replace("transmit", "tx"),
        both(*("" if d.bits is None else str(d.bits) for d in directions)),
        both(*(f"{d.sample_format} to {d.full_scale:g}" for d in directions)),
        "" if tolerance is None else f"{tolerance:g} ppm",
    ]


def _extents(extents: Sequence[Range]) -> str:
    return ", ".join(
        f"{in_hertz(extent.min_hz)} to {in_hertz(extent.max_hz)}"
        if extent.max_hz > extent.min_hz
        else in_hertz(extent.min_hz)
        for extent in extents
    )


def _facts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Keys and values of a profile, as they stand in its file; without what is not known."""
    if is_dataclass(value) and not isinstance(value, Range):
        for field in fields(value):
            if field.name != "sources":
                yield from _facts(getattr(value, field.name), f"{key}.{field.name}".lstrip("."))
    elif isinstance(value, tuple) and value and isinstance(value[0], Range):
        yield key, _extents(value)
    elif isinstance(value, tuple) and value and isinstance(value[0], GainStage):
        for stage in value:
            yield f"{key} {stage.name}", _settings(stage)
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        for number, item in enumerate(value):
            yield from _facts(item, f"{key}[{number}]")
    elif isinstance(value, tuple):
        if value:
            yield key, ", ".join(_text(item, key) for item in value)
    elif value is not None:
        yield key, _text(value, key)


def _settings(stage: GainStage) -> str:
    if stage.settings is not None:
        text = f"0 to {stage.settings - 1}, not in dB"
    elif stage.choices_db:
        text = f"{', '.join(f'{choice:g}' for choice in stage.choices_db)} dB"
    else:
        text = f"{stage.min_db:g} to {stage.max_db:g} dB by {stage.step_db:g} dB"
    if stage.sign is GainSign.ATTENUATION:
        text += " of attenuation"
    return text if stage.default is None else f"{text}; default {stage.default:g}"


def _text(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return in_hertz(value) if key.endswith("_hz") else f"{value:g}"
    return str(value)


def _source(profile: HardwareProfile, key: str) -> str | None:
    """The most special source of a key; members of lists have that of the list."""
    bare = re.split(r"[\[ ]", key)[0] + "."
    fitting = [source for source in profile.sources if bare.startswith(f"{source}.")]
    return profile.sources[max(fitting, key=len)] if fitting else None
