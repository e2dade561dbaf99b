"""Declarative hardware profiles and their strict loader.

A profile is a TOML file beside this module, or anywhere else. The dataclasses below are its schema:
a table is a dataclass, a key is a field, and a field without a default is required. Keys carry
their unit (``_hz``, ``_db``, ``_dbm``, ``_ppm``), so that no number can be read in a wrong one.

Every number needs a source. The table ``sources`` maps a key, or a table that holds several
(``"rx"`` or ``"rx.bits"``), to where its numbers come from: a data sheet, a measurement, a choice.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints


class ProfileError(Exception):
    """A profile is unknown, or its file is wrong; the message names the file and the key."""


class Duplex(StrEnum):
    """Which directions work, and whether at the same time."""

    FULL = "full"
    HALF = "half"
    RECEIVE_ONLY = "receive-only"
    TRANSMIT_ONLY = "transmit-only"


class SampleFormat(StrEnum):
    """Complex samples on the wire, by the type of I and Q."""

    CF32 = "cf32"
    CS16 = "cs16"
    CS8 = "cs8"
    CU8 = "cu8"

    @property
    def bits(self) -> int:
        """Significant bits of I or Q; of a float those of its significand."""
        return {"cf32": 24, "cs16": 16, "cs8": 8, "cu8": 8}[self]


class GainSign(StrEnum):
    """What a larger setting of a gain stage does to the level."""

    GAIN = "gain"
    ATTENUATION = "attenuation"


@dataclass(frozen=True)
class GainStage:
    """An adjustable stage of the analog chain.

    Attributes:
        name: as the driver calls it.
        min_db, max_db: ends of the setting's range.
        step_db: distance of settings; 0 for a continuous one.
        sign: whether a larger setting gives more level or less.
    """

    name: str
    min_db: float
    max_db: float
    step_db: float
    sign: GainSign = GainSign.GAIN

    def __post_init__(self) -> None:
        _ordered(self, "min_db", "max_db")
        _at_least(self, "step_db", 0)


@dataclass(frozen=True)
class Direction:
    """What both directions of a front end have.

    Attributes:
        channels: coherent channels.
        frequency_min_hz, frequency_max_hz: tuning range; 0 and 0 for complex baseband.
        bandwidth_min_hz, bandwidth_max_hz: range of the analog filter.
        bits: resolution of the converter.
        sample_format: samples on the wire.
        full_scale: amplitude of I or Q on the wire that is full scale of the converter.
        corrects_dc: the hardware removes its DC offset.
        corrects_iq: the hardware removes its IQ imbalance.
        gain: the gain stages, from the antenna.
    """

    channels: int
    frequency_min_hz: float
    frequency_max_hz: float
    bandwidth_min_hz: float
    bandwidth_max_hz: float
    bits: int
    sample_format: SampleFormat
    full_scale: float
    corrects_dc: bool
    corrects_iq: bool
    gain: tuple[GainStage, ...] = ()

    def __post_init__(self) -> None:
        _at_least(self, "channels", 1)
        _at_least(self, "frequency_min_hz", 0)
        _ordered(self, "frequency_min_hz", "frequency_max_hz")
        _at_least(self, "bandwidth_min_hz", 0)
        _ordered(self, "bandwidth_min_hz", "bandwidth_max_hz")
        _at_least(self, "bits", 1)
        if self.bits > self.sample_format.bits:
            raise ValueError(
                f"bits is {self.bits}, but {self.sample_format} carries {self.sample_format.bits}"
            )
        if self.full_scale <= 0:
            raise ValueError(f"full_scale must be positive, not {self.full_scale}")
        if self.sample_format is not SampleFormat.CF32:
            largest = 1 << (self.sample_format.bits - 1)
            if self.full_scale > largest:
                raise ValueError(
                    f"full_scale is {self.full_scale}, but {self.sample_format} ends at {largest}"
                )
        names = [stage.name for stage in self.gain]
        if len(set(names)) < len(names):
            raise ValueError("gain has two stages of the same name")


@dataclass(frozen=True)
class Receive(Direction):
    """The receiving direction.

    Attributes:
        max_input_dbm: highest safe level at the antenna port; None if there is no such limit.
    """

    max_input_dbm: float | None = None


@dataclass(frozen=True)
class Transmit(Direction):
    """The transmitting direction.

    Attributes:
        max_output_dbm: highest level at the antenna port; None if it has no such meaning.
    """

    max_output_dbm: float | None = None


@dataclass(frozen=True)
class SampleRate:
    """Sample rates that the front end supports.

    Attributes:
        default_hz: the rate to use unless told otherwise.
        min_hz, max_hz: ends of the range.
        choices_hz: the only rates in the range, if it is not continuous.
        host_max_hz: what the connection to the host sustains; None if it is no limit.
    """

    default_hz: float
    min_hz: float
    max_hz: float
    choices_hz: tuple[float, ...] = ()
    host_max_hz: float | None = None

    def __post_init__(self) -> None:
        if self.min_hz <= 0:
            raise ValueError(f"min_hz must be positive, not {self.min_hz}")
        _ordered(self, "min_hz", "max_hz")
        for rate in self.choices_hz:
            if not self.min_hz <= rate <= self.max_hz:
                raise ValueError(f"choices_hz has {rate}, outside min_hz to max_hz")
        if not self.supports(self.default_hz):
            raise ValueError(f"default_hz is {self.default_hz}, which is no supported rate")

    def supports(self, rate_hz: float) -> bool:
        """Whether the front end can run at a rate."""
        in_range = self.min_hz <= rate_hz <= self.max_hz
        return in_range and (not self.choices_hz or rate_hz in self.choices_hz)


@dataclass(frozen=True)
class Clock:
    """The reference oscillator.

    Attributes:
        tolerance_ppm: largest deviation; that of carrier and sample rate alike.
    """

    tolerance_ppm: float

    def __post_init__(self) -> None:
        _at_least(self, "tolerance_ppm", 0)


@dataclass(frozen=True)
class HardwareProfile:
    """A radio front end.

    Attributes:
        name: the profile's name, that of its file.
        description: one line for people.
        duplex: which directions work, and whether at the same time.
        sample_rate: rates, of both directions.
        clock: the reference oscillator.
        sources: where the numbers come from, by key or table.
        rx: receiving direction, if there is one.
        tx: transmitting direction, if there is one.
    """

    name: str
    description: str
    duplex: Duplex
    sample_rate: SampleRate
    clock: Clock
    sources: Mapping[str, str]
    rx: Receive | None = None
    tx: Transmit | None = None

    def __post_init__(self) -> None:
        for key, direction, without in (
            ("rx", self.rx, Duplex.TRANSMIT_ONLY),
            ("tx", self.tx, Duplex.RECEIVE_ONLY),
        ):
            if (direction is None) != (self.duplex is without):
                state = "missing" if direction is None else "given"
                raise ValueError(f"duplex is {self.duplex}, but {key} is {state}")


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    files = resources.files("hw_profiles").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_profile(name_or_path: str | Path) -> HardwareProfile:
    """Loads a profile by name, or from a ``.toml`` file.

    Raises:
        ProfileError: no such profile, or a wrong file: not TOML, a key that is missing, unknown,
            without its unit or of the wrong type, values that contradict each other, or a number
            without a source.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in profile_names():
            raise ProfileError(
                f"unknown hardware profile {str(name_or_path)!r}; "
                f"choose one of {', '.join(profile_names())}, or give a .toml file"
            )
        path = Path(str(resources.files("hw_profiles") / f"{name_or_path}.toml"))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        profile = _build(HardwareProfile, table, "")
        if profile.name != path.stem:
            raise ValueError(f"name is {profile.name!r}, but the file is {path.name}")
        _check_sources(table, profile.sources)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # of this module, or of the TOML or Unicode decoder
        raise ProfileError(f"{path}: {error}") from error
    return profile


_Schema = TypeVar("_Schema")


def _build(schema: type[_Schema], table: Mapping[str, Any], key: str) -> _Schema:
    """Makes a dataclass of a TOML table; ``key`` is the table's place, for messages."""
    assert is_dataclass(schema)
    known = {field.name: field for field in fields(schema)}
    for name in table:
        if name not in known:
            raise ValueError(_unknown(_join(key, name), name, known))
    types = get_type_hints(schema)
    values = {}
    for name, field in known.items():
        if name in table:
            values[name] = _convert(types[name], table[name], _join(key, name))
        elif field.default is MISSING:
            raise ValueError(f"{_join(key, name)} is missing")
    try:
        return schema(**values)
    except ValueError as error:
        raise ValueError(_join(key, str(error))) from error


def _unknown(key: str, name: str, known: Mapping[str, Field[Any]]) -> str:
    with_unit = [candidate for candidate in known if candidate.startswith(f"{name}_")]
    if with_unit:
        return f"{key} has no unit; write it as {' or '.join(with_unit)}"
    return f"{key} is unknown; keys here are {', '.join(known)}"


def _convert(kind: Any, value: Any, key: str) -> Any:
    """Checks a TOML value against a field's type, and converts it."""
    if isinstance(kind, UnionType):  # X | None: TOML has no null, so the value is an X
        kind = get_args(kind)[0]
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _build(kind, value, key)
    if get_origin(kind) is tuple and isinstance(value, list):
        member = get_args(kind)[0]
        return tuple(_convert(member, item, f"{key}[{i}]") for i, item in enumerate(value))
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return {name: _convert(str, item, _join(key, name)) for name, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if value in list(kind):
            return kind(value)
        raise ValueError(f"{key} is {value!r}; choose one of {', '.join(kind)}")
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError(f"{key} is {value!r}, which is not {_IN_WORDS.get(kind, 'what fits there')}")


_IN_WORDS = {float: "a finite number", int: "an integer", str: "a text", bool: "true or false"}


def _check_sources(table: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Every number has a source, and every source belongs to a number."""
    unused = set(sources)
    for key in _numbers(table, ""):
        covering = {source for source in sources if key == source or key.startswith(f"{source}.")}
        if not covering:
            raise ValueError(f"{key} has no source; name it, or its table, under sources")
        unused -= covering
    if unused:
        raise ValueError(f"sources.{min(unused)} names no number of this profile")


def _numbers(value: Any, key: str) -> Iterator[str]:
    """Keys of all numbers in a table; members of a list count as the list."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, _join(key, name))
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _ordered(table: object, low: str, high: str) -> None:
    if getattr(table, low) > getattr(table, high):
        raise ValueError(f"{low} is above {high}")


def _at_least(table: object, name: str, least: float) -> None:
    if getattr(table, name) < least:
        raise ValueError(f"{name} must be at least {least}, not {getattr(table, name)}")
