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


class LimitError(ProfileError):
    """A front end is asked for what it cannot do; the message names the nearest that it can."""


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
class Range:
    """A range of frequencies, rates or bandwidths.

    Attributes:
        min_hz, max_hz: its ends, both included.
    """

    min_hz: float
    max_hz: float

    def __post_init__(self) -> None:
        _at_least(self, "min_hz", 0)
        _ordered(self, "min_hz", "max_hz")


@dataclass(frozen=True)
class GainStage:
    """An adjustable stage of the analog chain.

    Its settings are decibels in a range, decibels of a list, or numbers without a unit: exactly
    one of the three.

    Attributes:
        name: as the driver calls it.
        min_db, max_db: ends of the setting's range.
        step_db: distance of settings in the range; 0 for a continuous one.
        choices_db: the only settings, ascending.
        settings: number of settings 0, 1, 2 ... whose decibels are not known.
        default: setting to start with, if the maker names one.
        sign: whether a larger setting gives more level or less.
    """

    name: str
    min_db: float | None = None
    max_db: float | None = None
    step_db: float | None = None
    choices_db: tuple[float, ...] = ()
    settings: int | None = None
    default: float | None = None
    sign: GainSign = GainSign.GAIN

    def __post_init__(self) -> None:
        in_range = [value is not None for value in (self.min_db, self.max_db, self.step_db)]
        if any(in_range):
            if not all(in_range):
                raise ValueError("min_db, max_db and step_db belong together")
            _ordered(self, "min_db", "max_db")
            _at_least(self, "step_db", 0)
        if any(in_range) + bool(self.choices_db) + (self.settings is not None) != 1:
            raise ValueError("min_db to max_db, choices_db or settings: one of them is needed")
        if list(self.choices_db) != sorted(set(self.choices_db)):
            raise ValueError("choices_db must ascend")
        if self.settings is not None:
            _at_least(self, "settings", 1)
        if self.default is not None and self.nearest(self.default) != self.default:
            raise ValueError(f"default is {self.default}, which is no setting of it")

    def nearest(self, setting: float) -> float:
        """The stage's setting that is nearest to a value."""
        if self.choices_db:
            return min(self.choices_db, key=lambda choice: abs(choice - setting))
        if self.settings is not None:
            return float(min(max(round(setting), 0), self.settings - 1))
        assert self.min_db is not None
        assert self.max_db is not None
        inside = min(max(setting, self.min_db), self.max_db)
        if not self.step_db:
            return inside
        steps = round((inside - self.min_db) / self.step_db)
        last = math.floor((self.max_db - self.min_db) / self.step_db + 1e-9)
        return self.min_db + min(steps, last) * self.step_db


@dataclass(frozen=True)
class PhaseNoisePoint:
    """A point of a phase noise mask.

    Attributes:
        offset_hz: from the carrier.
        level_dbc_hz: density there, dBc/Hz.
    """

    offset_hz: float
    level_dbc_hz: float


@dataclass(frozen=True)
class Faults:
    """What remains of the analog front end's imperfections, for the digital twin.

    Measured, from a data sheet, or assumed: the source says which.

    Attributes:
        dc_dbc: DC offset or carrier leakage over a signal of mean level.
        iq_gain_db, iq_phase_deg: imbalance of the mixer.
        phase_noise: of the carrier, by ascending offset.
    """

    dc_dbc: float | None = None
    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    phase_noise: tuple[PhaseNoisePoint, ...] = ()

    def __post_init__(self) -> None:
        offsets = [point.offset_hz for point in self.phase_noise]
        if offsets != sorted(set(offsets)) or any(offset <= 0 for offset in offsets):
            raise ValueError("phase_noise must have positive, ascending offsets")


@dataclass(frozen=True)
class Direction:
    """What both directions of a front end have. What is not known is None, or empty.

    Attributes:
        channels: coherent channels.
        frequency: tuning ranges; 0 to 0 for complex baseband.
        sample_format: samples on the wire.
        full_scale: amplitude of I or Q on the wire that is full scale of the converter.
        bandwidth: ranges of the analog filter.
        bandwidth_choices_hz: its only settings, if it is not continuous.
        bits: resolution of the converter.
        corrects_dc: the hardware or its driver removes the DC offset.
        corrects_iq: the hardware or its driver removes the IQ imbalance.
        gain: the gain stages, from the antenna.
        faults: what the digital twin adds.
    """

    channels: int
    frequency: tuple[Range, ...]
    sample_format: SampleFormat
    full_scale: float
    bandwidth: tuple[Range, ...] = ()
    bandwidth_choices_hz: tuple[float, ...] = ()
    bits: int | None = None
    corrects_dc: bool | None = None
    corrects_iq: bool | None = None
    gain: tuple[GainStage, ...] = ()
    faults: Faults | None = None

    def __post_init__(self) -> None:
        _at_least(self, "channels", 1)
        if not self.frequency:
            raise ValueError("frequency has no range")
        if self.bandwidth and self.bandwidth_choices_hz:
            raise ValueError("bandwidth is continuous, but there are bandwidth_choices_hz")
        if self.bits is not None:
            _at_least(self, "bits", 1)
            if self.bits > self.sample_format.bits:
                raise ValueError(
                    f"bits is {self.bits}, but {self.sample_format} carries "
                    f"{self.sample_format.bits}"
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
        max_input_dbm: highest safe level at the antenna port; None if it is not known.
    """

    max_input_dbm: float | None = None


@dataclass(frozen=True)
class Transmit(Direction):
    """The transmitting direction.

    Attributes:
        max_output_dbm: highest level at the antenna port, anywhere in the tuning range; None if it
            is not known.
    """

    max_output_dbm: float | None = None


@dataclass(frozen=True)
class SampleRate:
    """Sample rates that the front end supports.

    Attributes:
        default_hz: the rate to use unless told otherwise.
        ranges: of the rates.
        choices_hz: the only rates, if they are not continuous.
        divided_clocks_hz: clocks of which all rates are integer fractions, if there are such.
        host_max_hz: what the connection to the host sustains; None if it is no limit, or unknown.
    """

    default_hz: float
    ranges: tuple[Range, ...] = ()
    choices_hz: tuple[float, ...] = ()
    divided_clocks_hz: tuple[float, ...] = ()
    host_max_hz: float | None = None

    def __post_init__(self) -> None:
        if bool(self.ranges) == bool(self.choices_hz):
            raise ValueError("ranges or choices_hz: one of them is needed")
        if any(extent.min_hz <= 0 for extent in self.ranges):
            raise ValueError("ranges must be above 0 Hz")
        for name in ("choices_hz", "divided_clocks_hz"):
            if any(rate <= 0 for rate in getattr(self, name)):
                raise ValueError(f"{name} must be positive")
        if not self.supports(self.default_hz):
            raise ValueError(f"default_hz is {self.default_hz}, which is no supported rate")

    def supports(self, rate_hz: float) -> bool:
        """Whether front end and host can run at a rate."""
        return bool(math.isclose(self.nearest(rate_hz), rate_hz, rel_tol=1e-9))

    def nearest(self, rate_hz: float) -> float:
        """The supported rate that is nearest to a given one."""
        candidates = [rate for rate in self.choices_hz if self._sustained(rate)]
        highest = math.inf if self.host_max_hz is None else self.host_max_hz
        for extent in self.ranges:
            if extent.min_hz > highest:
                continue
            inside = min(max(rate_hz, extent.min_hz), extent.max_hz, highest)
            if not self.divided_clocks_hz:
                candidates.append(inside)
            for clock in self.divided_clocks_hz:
                fastest = max(math.ceil(clock / min(extent.max_hz, highest) - 1e-9), 1)
                slowest = math.floor(clock / extent.min_hz + 1e-9)
                divider = min(max(clock / inside, fastest), slowest)
                candidates += [
                    clock / n
                    for n in (math.floor(divider), math.ceil(divider))
                    if fastest <= n <= slowest
                ]
        if not candidates:
            raise ValueError("host_max_hz is below all rates")
        return min(candidates, key=lambda candidate: abs(candidate - rate_hz))

    def _sustained(self, rate_hz: float) -> bool:
        return self.host_max_hz is None or rate_hz <= self.host_max_hz


@dataclass(frozen=True)
class Clock:
    """The reference oscillator.

    Attributes:
        tolerance_ppm: largest deviation; that of carrier and sample rate alike; None if it is not
            known.
    """

    tolerance_ppm: float | None = None

    def __post_init__(self) -> None:
        if self.tolerance_ppm is not None:
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
