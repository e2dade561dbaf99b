"""What a training run is told: which images, how long, from what weights; read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from source_codec.experts import PHASES
from source_codec.integer_products import BYTES_STEP
from source_codec.network_shape import DenoiserShape
from source_codec.training_data import Part, Source, source_names

Section = TypeVar("Section")

RATES = (0.01, 0.002)
"""Peak learning rates of a run from random weights: hidden matrices (Muon), all else (Adam)."""
FINE_TUNING_RATES = (0.004, 0.0008)
"""The same of a run that starts from trained weights."""


@dataclass(frozen=True)
class ExpertConfig:
    """One expert of a training run; what is None is taken from where the run starts.

    Attributes:
        width, blocks, head_width: as of :class:`~source_codec.network_shape.DenoiserShape`;
            None takes the size that ``start_from`` has, or that class's default.
        learning_rate: peak rate of the hidden matrices' optimiser (Muon).
        learning_rate_scalars: peak rate of Adam, for heads, colour inputs and biases.

    Raises:
        ValueError: a size that the integer network cannot have.
    """

    width: int | None = None
    blocks: tuple[int, ...] | None = None
    head_width: int | None = None
    learning_rate: float | None = None
    learning_rate_scalars: float | None = None

    def __post_init__(self) -> None:
        named = [("blocks", size) for size in self.blocks or ()]
        for name, size in [("width", self.width), ("head_width", self.head_width), *named]:
            if size is not None and (size < 1 or size % BYTES_STEP):
                raise ValueError(f"{name} must be a multiple of {BYTES_STEP}, not {size}")

    def shape(self, start: DenoiserShape) -> DenoiserShape:
        """The network's sizes, where ``start`` says what the configuration leaves open."""
        given: dict[str, Any] = {
            "width": self.width,
            "blocks": self.blocks,
            "head_width": self.head_width,
        }
        return replace(start, **{name: size for name, size in given.items() if size is not None})


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        data_root: folder that the sources' paths start from.
        sources: what to train on.
        validation: what to measure on while training, and to calibrate with.
        experts: sizes and peak learning rates of each expert, in the order of
            :data:`source_codec.experts.PHASES`.
        minutes: wall-clock length of the run.
        batch: masked pixels a step and process, at least.
        crop: largest side of the image crops.
        seed: of data and initial weights.
        start_from: where the weights come from at first, if not from the seed: the name or path of
            a model, or a checkpoint (``.pt``) of another run.

    Raises:
        ValueError: no source, or a number out of its range.
    """

    data_root: Path
    sources: tuple[Source, ...]
    validation: tuple[Source, ...]
    experts: tuple[ExpertConfig, ...] = (ExpertConfig(),) * len(PHASES)
    minutes: float = 90.0
    batch: int = 8192
    crop: int = 224
    seed: int = 1
    start_from: str = ""

    def __post_init__(self) -> None:
        if not self.sources or not self.validation:
            raise ValueError("a run needs a source, and one for validation")
        numbers = {"minutes": self.minutes, "batch": self.batch, "crop": self.crop}
        for name, value in numbers.items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")

    def rates(self, expert: int) -> tuple[float, float]:
        """Peak learning rates of an expert: of its hidden matrices, of all else."""
        given = self.experts[expert]
        matrices, scalars = FINE_TUNING_RATES if self.start_from else RATES
        return (
            matrices if given.learning_rate is None else given.learning_rate,
            scalars if given.learning_rate_scalars is None else given.learning_rate_scalars,
        )


def _fits(value: object, hint: Any) -> bool:
    """Whether a value read from TOML is of an annotated type; integers are floats too."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(hint)[0]) for v in value)
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    return isinstance(value, int | float if hint is float else hint) and not isinstance(value, bool)


def _made(kind: type[Section], section: str, table: dict[str, Any]) -> Section:
    """The object that a TOML table describes; lists become tuples.

    Raises:
        ValueError: a key that there is not or that is missing, or a value of the wrong type.
    """
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"no key {key!r} in {section}: there are {', '.join(hints)}")
        if not _fits(value, hints[key]):
            raise ValueError(f"{key} in {section} cannot be {table[key]!r}")
    for field in fields(cast(Any, kind)):
        if field.default is MISSING and field.name not in values:
            raise ValueError(f"{field.name} is missing in {section}")
    return kind(**values)


def held_out(sources: Sequence[Source]) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """The sources without a tenth of their images, and as validation sources with that tenth."""
    names = source_names(sources)
    tenths = [
        replace(source, weight=1.0, part=Part.HELD_OUT)
        for source, name in zip(sources, names, strict=True)
        if name == source.name  # once each, however often it is named
    ]
    return tuple(replace(s, part=Part.TRAINING) for s in sources), tuple(tenths)


def load_config(path: Path) -> TrainingConfig:
    """Reads a training configuration; relative paths start from the file's folder.

    Without a ``[[validation]]`` section every tenth image of each source is held out for it.

    Raises:
        ValueError: an unknown key, a missing section, or a value out of its range.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
        sources = tuple(_made(Source, "[[source]]", entry) for entry in table.pop("source", []))
        if not sources:
            raise ValueError("no [[source]] section: name a folder of images to train on")
        validation = tuple(
            _made(Source, "[[validation]]", entry) for entry in table.pop("validation", [])
        )
        if not validation:
            sources, validation = held_out(sources)
        named = table.pop("expert", {})
        experts = tuple(
            _made(ExpertConfig, f"[expert.{phase.name}]", named.pop(phase.name, {}))
            for phase in PHASES
        )
        if named:
            known = ", ".join(phase.name for phase in PHASES)
            raise ValueError(f"no expert {next(iter(named))!r}: there are {known}")
        table |= {"sources": sources, "validation": validation, "experts": experts}
        table["data_root"] = (path.parent / table.get("data_root", ".")).resolve()
        if Path(table.get("start_from", "")).suffix:
            table["start_from"] = str((path.parent / table["start_from"]).resolve())
        return _made(TrainingConfig, "the configuration", table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
