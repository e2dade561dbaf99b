"""Training: the examples are those that coding meets, the loss is the code length, runs resume."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Photo
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from scipy.stats import logistic

from source_codec import Codec, ModelError, Process, export, training, training_data
from source_codec.calibration import fit_temperatures
from source_codec.conversion import from_denoisers, untrained
from source_codec.denoiser import Denoiser, mixture_bits
from source_codec.experts import PHASES, Kind, expert_of
from source_codec.export import calibration_images, export_checkpoint
from source_codec.history import photo_ycc_planes
from source_codec.logistic_mixture import code_length, mixture
from source_codec.mixture_loss import code_length_bits, torch_mixture_bits
from source_codec.model import Model
from source_codec.network_shape import DenoiserShape
from source_codec.order import Order, rank_map
from source_codec.process import steps_of
from source_codec.reverse_coding import Block, Context, input_units
from source_codec.schedule import Schedule, boundaries
from source_codec.training import Snapshot, Trainer, validation_bpsp
from source_codec.training_config import (
    FINE_TUNING_RATES,
    RATES,
    ExpertConfig,
    TrainingConfig,
    load_config,
)
from source_codec.training_data import (
    Batch,
    BatchStream,
    ImageStream,
    Part,
    Source,
    UnusableImages,
    concatenate,
    examples_at,
    load_images,
    masked_example,
    source_images,
    source_names,
)
from source_codec.training_log import TrainingLog, read_log
from source_codec.training_plot import save_training_plot

SHAPE = DenoiserShape(width=16, blocks=(16,), head_width=8)
TINY = ExpertConfig(16, (16,), 8, 0.02, 0.004)
SMALL, WAVEFRONT = (
    next(i for i, phase in enumerate(PHASES) if phase.kind == kind)
    for kind in (Kind.SMALL, Kind.WAVEFRONT)
)
HALTON = Process(Order.HALTON)


@pytest.fixture(scope="module")
def data(photo: Photo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small training images: PNG files, and a stack."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    for seed in range(4):
        Image.fromarray(photo(70, 80, 3, seed)).save(root / "photos" / f"{seed}.png")
    Image.fromarray(photo(50, 60, 1)).save(root / "photos" / "gray.png")
    (root / "stack").mkdir()
    np.save(root / "stack" / "images.npy", np.stack([photo(32, 32, 3, s) for s in range(10)]))
    return root


@pytest.fixture
def config(data: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    """A run of less than a second with tiny experts."""
    monkeypatch.setattr(training, "VALIDATION_PIXELS", 1000)
    return TrainingConfig(
        data_root=data,
        sources=(
            Source("photos", 1.0, exclude=("0.png",)),
            Source("photos", 1.0, "photo_ycc", factors=(1.0, 1.5)),
            Source("stack", 0.5, exclude=("0:2",)),
        ),
        validation=(Source("stack", 1.0, exclude=("2:10",)),),
        experts=(TINY,) * 5,
        minutes=0.01,
        batch=600,
        crop=48,
    )


# Configuration.

CONFIG = """
data_root = "../images"
minutes = 3
batch = 100
[expert.small]
width = 64
learning_rate = 0.02
[[source]]
folder = "a"
weight = 2.0
transform = "reduced"
factors = [1.5, 2.0]
exclude = ["x.png"]
[[source]]
folder = "b"
crop = 32
[[validation]]
folder = "c"
"""


def test_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.toml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    assert load_config(path) == TrainingConfig(
        data_root=tmp_path / "images",
        sources=(Source("a", 2.0, "reduced", (1.5, 2.0), ("x.png",)), Source("b", crop=32)),
        validation=(Source("c"),),
        experts=(
            *(ExpertConfig(),) * 3,
            ExpertConfig(width=64, learning_rate=0.02),
            ExpertConfig(),
        ),
        minutes=3,
        batch=100,
    )


def test_shortest_configuration(tmp_path: Path) -> None:
    """A folder is enough: it is found beside the file, and a tenth of it is held out."""
    path = tmp_path / "mine.toml"
    path.write_text("[[source]]\nfolder = 'photos'\n[[source]]\nfolder = 'photos'\ncrop = 32\n")
    config = load_config(path)
    assert config.data_root == tmp_path
    assert [source.part for source in config.sources] == [Part.TRAINING] * 2
    assert config.validation == (Source("photos", part=Part.HELD_OUT),)


def test_the_documented_example() -> None:
    docs = Path(__file__).parents[1] / "docs"
    assert load_config(docs / "small_photos.toml") == TrainingConfig(
        data_root=docs,
        sources=(Source("small_photos", part=Part.TRAINING),),
        validation=(Source("small_photos", part=Part.HELD_OUT),),
        minutes=8,
        start_from="default",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minutes", "minuets", "minuets"),
        ("minutes = 3", "minutes = -3", "minutes"),
        ("minutes = 3", "minutes = 'three'", "minutes"),
        ("batch = 100", "batch = 0", "batch"),
        ("crop = 32", "size = 3", "size"),
        ("[expert.small]", "[expert.tiny]", "tiny"),
        ("weight = 2.0", "weight = 0", "weight"),
        ("weight = 2.0", "weight = 'much'", "much"),
        ("width = 64", "widht = 64", "widht"),
        ("width = 64", "width = 60", "width must be a multiple of 8"),
        ("width = 64", "head_width = 0", "head_width must be a multiple of 8"),
        ("width = 64", "blocks = 2", "blocks"),
        ("width = 64", "blocks = [64, 4]", "blocks must be a multiple of 8"),
        ("[[source]]", "[[something]]", "source"),
        ("data_root", "root", "root"),
        ('"reduced"', '"enlarged"', "enlarged"),
        ("[1.5, 2.0]", "[0.5, 2.0]", "factors"),
        ("[1.5, 2.0]", "1.5", "factors"),
        ('folder = "c"', "weight = 1", "folder"),
        ('["x.png"]', "[1]", "exclude"),
        ("minutes = 3", "minutes = ", "line 3"),
    ],
)
def test_wrong_configurations(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "config.toml"
    assert old in CONFIG
    path.write_text(CONFIG.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert "config.toml" in str(caught.value)


def test_learning_rates(config: TrainingConfig) -> None:
    """Those given; else lower ones where weights are trained already."""
    given = replace(config, experts=(TINY, *(ExpertConfig(learning_rate=0.5),) * 4))
    assert given.rates(0) == (0.02, 0.004)
    assert given.rates(1) == (0.5, RATES[1])
    assert replace(given, start_from="default").rates(1) == (0.5, FINE_TUNING_RATES[1])


def test_names_of_sources() -> None:
    sources = [Source("a"), Source("a", transform="gray"), Source("a", crop=32), Source("b")]
    assert source_names(sources) == ["a:native", "a:gray", "a:native:2", "b:native"]


# Images.


def test_images_are_green_red_blue(data: Path) -> None:
    images = load_images(data / "photos", ())
    assert len(images) == 5
    stored = np.asarray(Image.open(data / "photos" / "2.png"))
    np.testing.assert_array_equal(images[2], stored[..., [1, 0, 2]])
    gray = images[4]
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    stack = np.load(data / "stack" / "images.npy")
    loaded = load_images(data / "stack", ("0:2", "5:9"))
    np.testing.assert_array_equal(loaded, stack[[2, 3, 4, 9]][..., [1, 0, 2]])


def test_excluded_files_are_left_out(data: Path) -> None:
    images = load_images(data / "photos", ("0.png", "gray.png"))
    assert len(images) == 3
    first = np.asarray(Image.open(data / "photos" / "1.png"))[..., [1, 0, 2]]
    np.testing.assert_array_equal(images[0], first)


def test_every_tenth_image_is_held_out(data: Path) -> None:
    stack = np.load(data / "stack" / "images.npy")[..., [1, 0, 2]]
    held_out = load_images(data / "stack", ("0:2",), Part.HELD_OUT)
    training_part = load_images(data / "stack", ("0:2",), Part.TRAINING)
    np.testing.assert_array_equal(held_out, stack[[2]])
    np.testing.assert_array_equal(training_part, stack[3:])


def test_of_large_folders_a_sample_is_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images of 76 kB in all, room for 40: every second is read."""
    monkeypatch.setattr(training_data, "IMAGE_BYTES", 40_000)
    sizes = [image.shape[:2] for image in load_images.__wrapped__(data / "photos")]
    assert sizes == [(70, 80), (70, 80), (50, 60)]


Prepare = Callable[[Path, Photo], Source]


def _nothing(folder: Path, photo: Photo) -> Source:
    return Source("mine")


def _only_jpeg(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(40, 40)).save(folder / "a.jpg")
    return Source("mine")


def _single(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(40, 40)).save(folder / "a.png")
    return Source("mine", part=Part.TRAINING)


def _icon(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(40, 40)).save(folder / "a.png")
    Image.fromarray(photo(40, 7)).save(folder / "icon.png")
    return Source("mine")


def _too_small_to_reduce(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(60, 70)).save(folder / "a.png")
    return Source("mine", transform="reduced", factors=(2.0, 3.0))


def _gray(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(40, 40, 1)).save(folder / "a.png")
    return Source("mine")


def _transparent(folder: Path, photo: Photo) -> Source:
    Image.fromarray(photo(40, 40)).convert("RGBA").save(folder / "glass.png")
    return Source("mine")


def _float_stack(folder: Path, photo: Photo) -> Source:
    np.save(folder / "images.npy", np.zeros((2, 32, 32, 3)))
    return Source("mine")


def _names_for_a_stack(folder: Path, photo: Photo) -> Source:
    np.save(folder / "images.npy", np.zeros((2, 32, 32, 3), np.uint8))
    return Source("mine", exclude=("a.png",))


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_nothing, ["no images", "PNG"]),
        (_only_jpeg, ["no images", "PNG"]),
        (_single, ["single image", "validation"]),
        (_icon, ["1 of 2", "8x8", "icon.png", "exclude"]),
        (_too_small_to_reduce, ["64x64", "a.png", "factors"]),
        (_gray, ["gray", "transform"]),
        (_transparent, ["glass.png", "RGBA", "convert"]),
        (_float_stack, ["images.npy", "float64", "uint8"]),
        (_names_for_a_stack, ["images.npy", "a.png", "0:100"]),
    ],
)
def test_unusable_images(tmp_path: Path, photo: Photo, prepare: Prepare, words: list[str]) -> None:
    """The message says which, why, and what to do."""
    (tmp_path / "mine").mkdir()
    with pytest.raises(UnusableImages) as caught:
        source_images(tmp_path, prepare(tmp_path / "mine", photo))
    for word in ["mine", *words]:
        assert word in str(caught.value)


def test_gray_images_may_be_trained_on_as_such(tmp_path: Path, photo: Photo) -> None:
    (tmp_path / "mine").mkdir()
    image = photo(40, 40, 1)
    Image.fromarray(image).save(tmp_path / "mine" / "a.png")
    source = Source("mine", transform="gray")
    assert source.gray
    (only,) = source_images(tmp_path, source)
    np.testing.assert_array_equal(only, np.repeat(image[..., None], 3, axis=2))


def test_native_images_are_crops_of_the_files(data: Path) -> None:
    stream = ImageStream(data, Source("photos", 1.0), 24, np.random.default_rng(1))
    originals = load_images(data / "photos", ())
    pieces = set()
    for image in originals:
        windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), axis=(0, 1))
        pieces |= {
            windows[y, x].transpose(1, 2, 0).tobytes() for y, x in np.ndindex(windows.shape[:2])
        }
    for _ in range(20):
        crop = stream.draw()
        assert crop.shape == (24, 24, 3)
        turned = [crop, crop.transpose(1, 0, 2)]
        turned += [t[::-1] for t in turned]
        turned += [t[:, ::-1] for t in turned]
        assert any(t.tobytes() in pieces for t in turned)


@pytest.mark.parametrize("transform", ["reduced", "photo_ycc", "ycbcr_420"])
def test_transformed_images(data: Path, transform: str) -> None:
    source = Source("photos", 1.0, transform, (1.2, 2.0))
    stream = ImageStream(data, source, 40, np.random.default_rng(2))
    for _ in range(10):
        image = stream.draw()
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert 32 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 40


def test_planes_of_photo_ycc(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is a piece of one plane, luma mostly, the same in all channels."""
    planes = []

    def record(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        planes.append(photo_ycc_planes(rgb))
        return planes[-1]

    monkeypatch.setattr(training_data.history, "photo_ycc_planes", record)
    source = Source("photos", 1.0, "photo_ycc_plane", (1.0, 1.0), ("gray.png",))
    stream = ImageStream(data, source, 100, np.random.default_rng(2))  # larger than the images
    seen = Counter[int]()
    for _ in range(60):
        image = stream.draw()
        np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=2))
        same = [
            i for i, plane in enumerate(planes[-1])
            if sorted(plane.ravel()) == sorted(image[..., 0].ravel())
        ]  # fmt: skip
        assert len(same) == 1
        seen[same[0]] += 1
    assert seen[0] > seen[1] + seen[2] > 5


def test_crop_of_a_source(data: Path) -> None:
    """A source's own crop goes before the configuration's."""
    stream = ImageStream(data, Source("photos", crop=20), 48, np.random.default_rng(3))
    assert stream.draw().shape == (20, 20, 3)


def test_whole_small_pictures_are_mirrored_only(data: Path) -> None:
    stream = ImageStream(data, Source("stack"), 48, np.random.default_rng(4))
    originals = load_images(data / "stack")
    allowed = {turned.tobytes() for image in originals for turned in (image, image[:, ::-1])}
    drawn = {stream.draw().tobytes() for _ in range(60)}
    assert drawn <= allowed
    assert len(drawn) > len(originals)


# Masked examples.


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("process", [Process(), HALTON])
@pytest.mark.parametrize("size", [(30, 25), (70, 66)])
def test_masks_are_those_of_coding(
    photo: Photo,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    process: Process,
    gray: bool,
) -> None:
    """Every example is part of a step of the coder, with exactly the pixels known before it."""
    steps = {}
    known = np.zeros(size, dtype=np.uint8)
    for step in steps_of(process, *size):
        pixels = set(zip(step.ys, step.xs, strict=True))
        steps[known.tobytes()] = (pixels, step.density, step.kind)
        known[step.ys, step.xs] = 1
    image = photo(*size)
    seen = set()
    asked = []

    def record(
        image: NDArray[np.uint8],
        known: NDArray[np.uint8],
        ys: NDArray[np.intp],
        xs: NDArray[np.intp],
        density: int,
        kind: Kind,
        gray: bool,
    ) -> Batch:
        asked.append((known.copy(), set(zip(ys, xs, strict=True)), density, kind))
        return examples_at(image, known, ys, xs, density, kind, gray)

    monkeypatch.setattr(training_data, "examples_at", record)
    rng = np.random.default_rng(3)
    for _ in range(60):
        batch = masked_example(image, process, rng, 100, gray)
        known, pixels, *setting = asked[-1]
        expected, *expected_setting = steps[known.tobytes()]
        assert pixels <= expected
        assert len(pixels) == min(len(expected), 100) == len(batch.inputs)
        assert setting == expected_setting
        seen.add(known.tobytes())
    assert len(seen) > 12


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("order", [Order.AUTO, Order.HALTON])
@pytest.mark.parametrize("size", [(30, 25), (70, 66)])
def test_examples_are_what_the_coder_sees(
    codec: Codec, photo: Photo, size: tuple[int, int], order: Order, gray: bool
) -> None:
    """The network's answer to a training example is its answer while coding; so are the targets."""
    image = photo(*size)
    if gray:
        image = np.repeat(image[..., :1], 3, axis=2)
    context = Context(codec.model, np.zeros_like(image)[None], gray)
    for number, step in enumerate(steps_of(Process(order, steps=12), *size)):
        if number in (0, 3, 7, 11, 50):
            span = slice(0, min(len(step.ys), 200))
            block = Block.of_images(0, 1, step.ys[span], step.xs[span])
            evaluation = context.evaluate(step, block)
            batch = examples_at(
                image,
                context.known.copy(),
                step.ys[span].astype(np.intp),
                step.xs[span].astype(np.intp),
                step.density,
                step.kind,
                gray,
            )
            stored = (batch.inputs.numpy().astype(np.int16) + 128).astype(np.uint8)
            neck = codec.model.experts[batch.expert].trunk(stored)
            coded = neck[:, : evaluation.neck.shape[1]]  # of gray images one head's part
            np.testing.assert_array_equal(coded, evaluation.neck)
            for c in range(2):
                values = image[step.ys[span], step.xs[span], c].astype(np.int32)
                units = input_units(values, evaluation.base[c], evaluation.exponent)
                rounded = torch.floor(batch.residual[:, c] + 0.5).clamp(-127, 127)
                np.testing.assert_array_equal(rounded, units)
        context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
        context.end_step(step)


def test_targets(photo: Photo) -> None:
    """Bins are one gray level wide; the outermost are open; gray images count one channel."""
    image = photo(40, 40)
    image[::3] = 0
    image[1::3] = 255
    ys, xs = (a.ravel() for a in np.mgrid[10:30, 10:30])
    known = np.random.default_rng(4).integers(0, 2, (40, 40)).astype(np.uint8)
    batch = examples_at(image, known, ys, xs, 5, Kind.SMALL, gray=False)
    true = image[ys, xs]
    lower, upper = batch.edges[..., 0].numpy(), batch.edges[..., 1].numpy()
    assert (lower[true == 0] == -1e6).all()
    assert (upper[true == 255] == 1e6).all()
    inner = (true > 0) & (true < 255)
    width = (upper - lower)[inner]
    # 16, 8, ... 1/4 input units, the same for a pixel's three channels.
    assert set(width.tolist()) <= {16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25}
    middle = ((upper + lower) / 2)[inner]
    np.testing.assert_allclose(middle, batch.residual.numpy()[inner], atol=1e-3)
    assert (batch.weight == 1).all()
    gray = examples_at(image, known, ys, xs, 5, Kind.SMALL, gray=True)
    np.testing.assert_array_equal(gray.weight, np.tile([1.0, 0.0, 0.0], (400, 1)))


@pytest.mark.parametrize("order", [Order.AUTO, Order.HALTON])
def test_steps_of_small_images_are_sampled_without_bias(
    photo: Photo, monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    """Each step as often as any other, and whole: so every pixel counts the same on average."""
    drawn = Counter[int]()

    def record(
        image: NDArray[np.uint8], known: NDArray[np.uint8], ys: NDArray[np.intp], *rest: object
    ) -> Batch:
        drawn[int(known.sum())] += 1
        assert len(ys) == steps[int(known.sum())]
        return Batch(SMALL, *(torch.zeros(len(ys)),) * 4)

    process = Process(order, steps=16)
    counts = [len(step.ys) for step in steps_of(process, 40, 40)]
    steps = dict(zip(accumulate(counts, initial=0), counts, strict=False))
    monkeypatch.setattr(training_data, "examples_at", record)
    rng = np.random.default_rng(3)
    draws, image = 200 * len(steps), photo(40, 40)
    for _ in range(draws):
        masked_example(image, process, rng, 512, gray=False, explore=0.5)
    assert set(drawn) == set(steps)
    assert max(steps.values()) > 5 * min(steps.values())  # by their pixels they would differ
    assert 140 < min(drawn.values()) < max(drawn.values()) < 260  # 4.2 standard deviations


@pytest.mark.parametrize("explore", [0.0, 1.0])
def test_steps_of_large_images_weigh_by_their_pixels(
    photo: Photo, monkeypatch: pytest.MonkeyPatch, explore: float
) -> None:
    """As often as their share of the pixels; or uniformly, where a run explores."""
    drawn = Counter[int]()

    def record(image: NDArray[np.uint8], known: NDArray[np.uint8], *rest: object) -> Batch:
        drawn[int(known.sum())] += 1
        return Batch(0, *(torch.zeros(1),) * 4)

    ranks, n_ranks = rank_map(Order.HALTON, 80, 80)
    cuts = boundaries(Schedule.COSINE, n_ranks, 16)
    before = np.array([(ranks < cut).sum() for cut in cuts])
    monkeypatch.setattr(training_data, "examples_at", record)
    rng = np.random.default_rng(4)
    image = photo(80, 80)
    for _ in range(3000):
        masked_example(image, Process(steps=16), rng, 50, gray=False, explore=explore)
    shares = np.full(len(before) - 1, 1 / (len(before) - 1)) if explore else np.diff(before) / 6400
    found = [drawn[int(start)] / 3000 for start in before[:-1]]
    np.testing.assert_allclose(found, shares, atol=0.025)


def test_last_step_of_a_small_image_is_not_cut(config: TrainingConfig) -> None:
    """All examples of small images are whole steps, whatever remains to be drawn of a source."""
    stream = BatchStream(config.data_root, [Source("stack")], 1, 48, np.random.default_rng(5))
    allowed = {
        SMALL: {
            len(step.ys)
            for steps in set(BatchStream.STEPS)
            for step in steps_of(Process(Order.HALTON, steps=steps), 32, 32)
        },
        WAVEFRONT: {len(step.ys) for step in steps_of(Process(), 32, 32)},
    }
    drawn = Counter[int]()
    for _ in range(150):
        batch = stream.take()
        assert len(batch.inputs) in allowed[batch.expert]
        drawn[batch.expert] += 1
    assert 124 < drawn[WAVEFRONT] < 150  # 138 expected: 4 standard deviations
    stream.close()


# Batches.


def test_batches_are_well_formed(config: TrainingConfig) -> None:
    stream = BatchStream(config.data_root, list(config.sources), 700, 48, np.random.default_rng(5))
    for _ in range(3):
        batch = stream.take()
        rows = len(batch.inputs)
        assert 700 <= rows < 700 + 512
        assert batch.inputs.shape == (rows, PHASES[batch.expert].window.inputs)
        assert batch.inputs.dtype == torch.int8
        for part, shape in ((batch.residual, (3,)), (batch.edges, (3, 2)), (batch.weight, (3,))):
            assert part.shape == (rows, *shape)
            assert part.dtype == torch.float32
            assert bool(torch.isfinite(part).all())
        assert bool((batch.edges[..., 0] < batch.edges[..., 1]).all())
        assert set(batch.weight[:, 0].tolist()) == {1.0}
        assert set(batch.weight[:, 1].tolist()) <= {0.0, 1.0}
        parts = list(batch.split(300))
        assert [len(p.inputs) for p in parts[:-1]] == [300] * (len(parts) - 1)
        assert {p.expert for p in parts} == {batch.expert}
        assert torch.equal(concatenate(parts).edges, batch.edges)
    stream.close()


@pytest.mark.parametrize(
    ("size", "order", "experts"),
    [
        ((64, 64), Order.AUTO, {WAVEFRONT}),
        ((64, 64), Order.HALTON, {SMALL}),
        ((64, 65), Order.AUTO, {0, 1, 2}),
        ((64, 65), Order.HALTON, {0, 1, 2}),
    ],
)
def test_examples_go_to_the_expert_that_codes_them(
    photo: Photo, size: tuple[int, int], order: Order, experts: set[int]
) -> None:
    """At 64x64 pixels images cease to be small; of larger ones the step decides."""
    rng = np.random.default_rng(6)
    image, process = photo(*size), Process(order)
    steps = {len(step.ys): expert_of(step.density, step.kind) for step in steps_of(process, *size)}
    seen = set()
    for _ in range(80):
        example = masked_example(image, process, rng, 10_000, gray=False, explore=1.0)
        assert example.expert == steps[len(example.inputs)]
        seen.add(example.expert)
    assert seen == experts


def test_batches_have_one_expert_each(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context inputs of all pixels of a batch, density and size, are those of its expert."""
    monkeypatch.setattr(BatchStream, "EXPLORE", 1.0)
    sources = [Source("photos"), Source("stack")]
    stream = BatchStream(config.data_root, sources, 600, 70, np.random.default_rng(7))
    experts = Counter[int]()
    for _ in range(25):
        batch = stream.take()
        # Seven exponents, eight densities, and the flags small and gray.
        context = 4 * PHASES[batch.expert].window.places
        flags = batch.inputs[:, context + 7 : context + 16].numpy() != 0
        densities = set(flags[:, :8].argmax(axis=1).tolist())
        assert set(flags[:, 8].tolist()) == {batch.expert in (SMALL, WAVEFRONT)}
        assert densities <= set(PHASES[batch.expert].densities)
        experts[batch.expert] += 1
    assert set(experts) == {0, 1, 2, SMALL, WAVEFRONT}
    stream.close()


def test_batches_of_a_wanted_expert(config: TrainingConfig) -> None:
    """Those of others are kept for later, a few of each."""
    sources = [Source("photos"), Source("stack")]
    stream = BatchStream(config.data_root, sources, 300, 70, np.random.default_rng(8))
    for expert in (SMALL, 2, 2, SMALL, 2, SMALL):
        assert stream.take(expert).expert == expert
    assert max(len(spare) for spare in stream._spare) > 0
    kept = stream._spare[2]
    kept.extend([stream.take(2)] * 20)
    assert len(kept) == BatchStream.SPARE
    first = kept[0]
    assert stream.take(2) is first
    stream.close()


def test_errors_of_the_background_thread_arrive(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise ZeroDivisionError("in the background")

    monkeypatch.setattr(training_data.history, "through_photo_ycc", fail)
    stream = BatchStream(config.data_root, [config.sources[1]], 10, 48, np.random.default_rng(6))
    with pytest.raises(ZeroDivisionError, match="in the background"):
        stream.take()


# The loss.


def random_parameters(channel: int, rng: np.random.Generator, n: int = 200) -> torch.Tensor:
    parts = [
        rng.normal(size=(n, 5)),
        rng.normal(scale=0.5, size=(n, 5)),
        rng.normal(scale=1.5, size=(n, 5)),
        rng.normal(scale=0.5, size=(n, channel)),
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def random_bins(rng: np.random.Generator, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    residual = rng.normal(scale=30, size=(n, 3)).astype(np.float32)
    middle = rng.normal(scale=20, size=n)
    edges = np.stack([middle - 2, middle + 2], axis=1)
    edges[:10, 0] = -1e6
    edges[10:20, 1] = 1e6
    return torch.from_numpy(residual), torch.from_numpy(edges.astype(np.float32))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_loss_is_the_code_length_of_the_mixture(channel: int) -> None:
    """-log2 of the bin's mass, with a uniform distribution of weight 2^-12 mixed in."""
    rng = np.random.default_rng(7)
    parameters = random_parameters(channel, rng)
    residual, edges = random_bins(rng)
    p = parameters.numpy().astype(np.float64)
    coded = np.clip(np.rint(residual.numpy()), -127, 127)[:, :channel]
    centre = 32 * p[:, 5:10] + (p[:, 15:] * coded).sum(axis=1, keepdims=True)
    scale = 8 * 2.0 ** p[:, 10:15]
    cdf = logistic.cdf((edges.numpy()[:, None, :] - centre[..., None]) / scale[..., None])
    mass = (softmax(p[:, :5], axis=1) * (cdf[..., 1] - cdf[..., 0])).sum(axis=1)
    expected = -np.log2((1 - 2**-12) * mass + 2**-12 / 256)
    bits = mixture_bits(parameters, residual, edges)
    np.testing.assert_allclose(bits, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("channel", [0, 2])
def test_gradient_of_the_loss(channel: int) -> None:
    """The kernel's own derivative against torch's of the same formula in float64."""
    rng = np.random.default_rng(8)
    parameters = random_parameters(channel, rng)
    residual, edges = random_bins(rng)
    parameters.requires_grad_()
    mixture_bits(parameters, residual, edges).sum().backward()
    p = parameters.detach().double().requires_grad_()
    coded = residual.double().round().clamp(-127, 127)[:, :channel]
    centre = 32 * p[:, 5:10] + (p[:, 15:] * coded).sum(dim=1, keepdim=True)
    scale = 8 * torch.exp2(p[:, 10:15])
    cdf = torch.sigmoid((edges.double()[:, None, :] - centre[..., None]) / scale[..., None])
    mass = (torch.softmax(p[:, :5], dim=1) * (cdf[..., 1] - cdf[..., 0])).sum(dim=1)
    (-torch.log2((1 - 2**-12) * mass + 2**-12 / 256)).sum().backward()
    assert p.grad is not None
    np.testing.assert_allclose(parameters.grad, p.grad, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_loss_in_torch_operations_is_that_of_the_kernel(channel: int) -> None:
    """In value and gradient, also of scales beyond their range and of certain or lost values."""
    rng = np.random.default_rng(11)
    parameters = random_parameters(channel, rng)
    parameters[20:30, 10:15] *= 10
    parameters[30:40, 5:10] += 40
    residual, edges = random_bins(rng)
    weight = torch.from_numpy(rng.uniform(size=200).astype(np.float32))
    results = []
    for loss in (mixture_bits, torch_mixture_bits):
        leaf = parameters.clone().requires_grad_()
        bits = loss(leaf, residual, edges)
        (bits * weight).sum().backward()
        assert leaf.grad is not None
        results.append((bits.detach(), leaf.grad))
    (bits, gradient), (torch_bits, torch_gradient) = results
    assert bits.max() > 15  # some values lie where the uniform floor decides
    np.testing.assert_allclose(torch_bits, bits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(torch_gradient, gradient, rtol=1e-3, atol=1e-4)


def test_the_kernel_serves_the_cpu_and_torch_other_devices() -> None:
    rng = np.random.default_rng(12)
    arguments = random_parameters(1, rng), *random_bins(rng)
    assert torch.equal(code_length_bits(*arguments), mixture_bits(*arguments))
    elsewhere = code_length_bits(*(tensor.to("meta") for tensor in arguments))
    assert elsewhere.device.type == "meta"
    assert elsewhere.shape == (200,)


@pytest.mark.parametrize(
    ("size", "order", "experts"),
    [
        ((60, 50), Order.AUTO, {WAVEFRONT}),
        ((60, 50), Order.HALTON, {SMALL}),
        ((70, 60), Order.AUTO, {0, 1, 2}),
    ],
)
def test_training_loss_predicts_the_coded_length(
    photo: Photo, size: tuple[int, int], order: Order, experts: set[int]
) -> None:
    """Bits per sub-pixel by the float network and by the exported tables agree within 1 %."""
    torch.manual_seed(1)
    denoisers = untrained([SHAPE] * 5)
    model = from_denoisers(denoisers)
    image = photo(*size)
    examples, coded = [], 0.0
    context = Context(model, np.zeros_like(image)[None], gray=False)
    for step in steps_of(Process(order, steps=8), *size):
        examples.append(
            examples_at(
                image,
                context.known.copy(),
                step.ys.astype(np.intp),
                step.xs.astype(np.intp),
                step.density,
                step.kind,
                gray=False,
            )
        )
        evaluation = context.evaluate(step, Block.of_images(0, 1, step.ys, step.xs))
        residual = np.empty((len(step.ys), 2), dtype=np.int32)
        for c in range(3):
            values = image[step.ys, step.xs, c].astype(np.int32)
            before = np.ascontiguousarray(residual[:, :c])
            parameters = context.network(step).head(c, evaluation.neck, before)
            base, exponent = evaluation.base[c], evaluation.exponent
            distributions = mixture(parameters, base, exponent, before, 0, model.tables)
            coded += code_length(distributions, values)
            if c < 2:
                residual[:, c] = input_units(values, evaluation.base[c], evaluation.exponent)
        context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
        context.end_step(step)
    assert {example.expert for example in examples} == experts
    predicted = validation_bpsp(denoisers, examples)
    assert coded / image.size == pytest.approx(predicted, rel=0.01)


# Runs.


def batches_of(config: TrainingConfig, number: int, seed: int = 9) -> list[Batch]:
    """The same batches whenever asked for, some of every expert."""
    photos = load_images(config.data_root / "photos")
    stack = load_images(config.data_root / "stack")
    rng = np.random.default_rng(seed)
    result: list[Batch] = []
    for step in count():
        image = stack[step % 10] if step % 5 > 2 else photos[step % 5]
        process = Process() if step % 5 == 4 else HALTON
        example = masked_example(image, process, rng, 150, gray=False, explore=1.0)
        if example.expert == len(result) % len(PHASES) and len(example.inputs) > 8:
            result.append(example)
        if len(result) == number:
            return result
    raise AssertionError


def weights_of(networks: list[Denoiser]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for n in networks for parameter in n.parameters()]


def optimiser_state(trainer: Trainer) -> list[torch.Tensor]:
    states = [o.state_dict()["state"] for pair in trainer.optimisers for o in pair]
    return [
        tensor
        for state in states
        for entry in state.values()
        for tensor in entry.values()
        if isinstance(tensor, torch.Tensor)
    ]


def assert_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


def test_a_run_logs_saves_and_resumes(config: TrainingConfig, tmp_path: Path) -> None:
    rows: list[Snapshot] = []
    first = Trainer(config, tmp_path)
    assert first.run(lambda snapshot: rows.append(replace(snapshot)))
    steps = sum(first.steps)
    assert steps >= 1
    assert rows[0].loss is None
    assert rows[0].validation["stack:native"] > 0
    assert rows[-1].steps == steps
    assert rows[-1].loss is not None
    assert (tmp_path / "checkpoint.pt").exists()

    # The time is used up: nothing more happens.
    again = Trainer(config, tmp_path)
    assert again.steps == first.steps
    assert again.seconds >= 0.6
    assert again.run()
    assert sum(again.steps) == steps

    # With more time the same run goes on.
    longer = Trainer(replace(config, minutes=again.seconds / 60 + 0.01), tmp_path)
    longer.run()
    assert sum(longer.steps) > steps
    logged = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in logged] == [0, steps, sum(longer.steps)]
    assert [sorted(row) for row in logged] == [
        ["minutes", "stack:native", "step"],
        *[["bpsp", "minutes", "stack:native", "step"]] * 2,
    ]
    assert logged[2]["minutes"] > logged[1]["minutes"] > logged[0]["minutes"] == 0


def test_training_learns(config: TrainingConfig, tmp_path: Path) -> None:
    """A dozen updates of an expert on one batch shorten its code."""
    trainer = Trainer(config, tmp_path)
    batches = batches_of(config, 5)
    for expert in (0, SMALL, WAVEFRONT):
        assert batches[expert].expert == expert
        losses = [trainer.update(batches[expert], 1.0) for _ in range(12)]
        assert np.isfinite(losses).all()
        assert losses[-1] < losses[0] - 0.3
        # The first loss is the code length before any update.
        assert losses[0] < 9


def test_an_update_concerns_one_expert(config: TrainingConfig, tmp_path: Path) -> None:
    trainer = Trainer(config, tmp_path)
    before = [weights_of([model]) for model in trainer.models]
    batch = batches_of(config, 3)[2]
    trainer.update(batch, 1.0)
    for expert in range(5):
        networks = [trainer.models[expert]], [trainer.averages[expert]]
        for after in map(weights_of, networks):
            unchanged = all(map(torch.equal, before[expert], after))
            assert unchanged == (expert != 2)
    assert trainer.steps == [0, 0, 1, 0, 0]


def test_resuming_is_as_if_nothing_had_happened(config: TrainingConfig, tmp_path: Path) -> None:
    """Weights, averages and optimisers of all experts: the same updates bring the same weights."""
    batches = batches_of(config, 10)
    whole = Trainer(config, tmp_path / "whole")
    for batch in batches:
        whole.update(batch, 0.7)
    first = Trainer(config, tmp_path / "parts")
    for batch in batches[:5]:
        first.update(batch, 0.7)
    first.seconds = 0.1
    first.save()
    second = Trainer(replace(config, seed=5), tmp_path / "parts")
    assert second.steps == [1, 1, 1, 1, 1]
    assert second.seconds == 0.1
    assert_equal(optimiser_state(second), optimiser_state(first))
    assert len(optimiser_state(second)) > 40
    for batch in batches[5:]:
        second.update(batch, 0.7)
    assert_equal(weights_of(second.models), weights_of(whole.models))
    assert_equal(weights_of(second.averages), weights_of(whole.averages))


@pytest.mark.parametrize("pause", [0.0, 3600.0])
def test_a_suspended_run_loses_no_minutes(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """Steps of two seconds; after the third the machine sleeps for an hour: five are counted."""
    ticks = count()
    monkeypatch.setattr(
        training,
        "time",
        SimpleNamespace(
            monotonic=lambda: 2.0 * (n := next(ticks)) + (pause if n >= 3 else 0.0),
            perf_counter=time.perf_counter,  # of the trial of product types, if it comes first
        ),
    )
    trainer = Trainer(replace(config, minutes=20 / 60), tmp_path)
    assert trainer.run()
    assert sum(trainer.steps) == (9 if pause else 10)
    assert trainer.seconds == (21.0 if pause else 20.0)


def test_a_stopped_run_saves_and_goes_on(config: TrainingConfig, tmp_path: Path) -> None:
    trainer = Trainer(replace(config, minutes=5), tmp_path)

    def report(snapshot: Snapshot) -> None:
        if snapshot.steps == 3:
            trainer.stop()

    assert not trainer.run(report)
    again = Trainer(config, tmp_path)
    assert sum(again.steps) == 3
    assert again.seconds == trainer.seconds > 0
    assert_equal(weights_of(again.models), weights_of(trainer.models))


def test_experts_without_images_stay_as_they_are(config: TrainingConfig, tmp_path: Path) -> None:
    small_only = replace(config, sources=(Source("stack"),))
    trainer = Trainer(small_only, tmp_path)
    before = weights_of(trainer.averages[:3])
    trainer.run()
    assert sum(trainer.steps[:3]) == 0
    assert trainer.steps[WAVEFRONT] > 0
    assert_equal(weights_of(trainer.averages[:3]), before)


def test_a_run_may_start_from_another(config: TrainingConfig, tmp_path: Path) -> None:
    first = Trainer(config, tmp_path / "first")
    first.averages[1].stem.bias.data += 0.5
    first.steps = [7, 7, 7, 7, 7]
    first.save()
    start = str(tmp_path / "first" / "checkpoint.pt")
    # The sizes need not be said again.
    settings = replace(config, start_from=start, seed=2, experts=(ExpertConfig(),) * 5)
    second = Trainer(settings, tmp_path / "second")
    assert second.steps == [0, 0, 0, 0, 0]
    assert_equal(weights_of(second.models), weights_of(first.averages))
    assert_equal(weights_of(second.averages), weights_of(first.averages))


def test_a_run_may_start_from_the_default_model(config: TrainingConfig, tmp_path: Path) -> None:
    """Rounding its weights again changes nothing: the same integers, so the same model."""
    default = Model.load()
    settings = replace(config, start_from="default", experts=(ExpertConfig(),) * 5)
    trainer = Trainer(settings, tmp_path / "run")
    again = from_denoisers(trainer.averages)
    for expert, expected in zip(again.experts, default.experts, strict=True):
        for layer, wanted in zip(expert.layers(), expected.layers(), strict=True):
            np.testing.assert_array_equal(layer.weight, wanted.weight)
            np.testing.assert_array_equal(layer.bias, wanted.bias)
            np.testing.assert_array_equal(layer.shift, wanted.shift)


def test_a_start_of_another_shape_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"sparse of default has .*width 16"):
        Trainer(replace(config, start_from="default"), tmp_path / "run")
    Trainer(config, tmp_path / "run").save()
    wider = replace(config, experts=(*(TINY,) * 3, replace(TINY, width=24), TINY))
    with pytest.raises(ModelError, match=r"small of .*checkpoint.pt has .*width 24"):
        Trainer(wider, tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoints_are_refused(
    config: TrainingConfig, tmp_path: Path, content: bytes | None
) -> None:
    Trainer(config, tmp_path).save()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    with pytest.raises(ModelError, match="checkpoint"):
        Trainer(config, tmp_path)


# The log.


def test_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = TrainingLog(path, ["a:native"], 0)
    log.append({"step": 0.0, "minutes": 0.0, "a:native": 3.5})
    log.append({"step": 7.0, "minutes": 0.5, "bpsp": 4.123456})
    log.append({"step": 9.0, "minutes": 0.7, "bpsp": 4.0})
    assert path.read_text().split() == [
        "step,minutes,bpsp,a:native",
        "0,0,,3.5",
        "7,0.5,4.1235,",
        "9,0.7,4,",
    ]
    resumed = TrainingLog(path, ["b:native"], 7)
    resumed.append({"step": 8.0, "minutes": 0.6, "bpsp": 3.9, "b:native": 2.0})
    assert read_log(path) == [
        {"step": 0.0, "minutes": 0.0, "a:native": 3.5},
        {"step": 7.0, "minutes": 0.5, "bpsp": 4.1235},
        {"step": 8.0, "minutes": 0.6, "bpsp": 3.9, "b:native": 2.0},
    ]


@pytest.mark.parametrize("rows", [1, 3])
def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Every source's validation figures and the loss, at their minutes."""
    drawn = {}
    plot = Axes.plot

    def record(self: Axes, *arguments: object, **kwargs: object) -> object:
        drawn[kwargs["label"]] = arguments
        return plot(self, *arguments, **kwargs)

    monkeypatch.setattr(Axes, "plot", record)
    log = [
        {"step": 0.0, "minutes": 0.0, "a": 3.5, "b": 2.5},
        {"step": 7.0, "minutes": 0.5, "bpsp": 4.0},
        {"step": 9.0, "minutes": 0.7, "bpsp": 3.0, "a": 3.25, "b": 2.0},
    ]
    save_training_plot(log[:rows], tmp_path / "loss.png")
    expected = {"a 3.500": ((0.0,), (3.5,)), "b 2.500": ((0.0,), (2.5,))}
    if rows == 3:
        expected = {
            "a 3.250": ((0.0, 0.7), (3.5, 3.25)),
            "b 2.000": ((0.0, 0.7), (2.5, 2.0)),
            "training loss": ((0.5, 0.7), (4.0, 3.0)),
        }
    assert drawn == expected
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 500


# From a checkpoint to a codec.


def test_export_of_a_checkpoint(
    config: TrainingConfig, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SMALL_IMAGES", 5)
    trainer = Trainer(config, tmp_path)
    trainer.steps[SMALL] = trainer.steps[WAVEFRONT] = 1
    for expert in (SMALL, WAVEFRONT):
        trainer.averages[expert].heads[0].bias.data[10:15] -= 3  # octaves: far too sure
    trainer.save()
    model = export_checkpoint(trainer.checkpoint, config, tmp_path / "model.safetensors", "a note")
    assert model.notes == "a note"
    codec = Codec.load(tmp_path / "model.safetensors")
    assert codec.model.model_id == model.model_id
    image = photo(20, 22)
    np.testing.assert_array_equal(codec.decode(codec.encode(image)), image)
    # Only the small validation images were seen: the large class stays neutral.
    assert not model.temperature[Kind.LARGE].any()
    assert model.temperature[Kind.SMALL].any()
    assert model.temperature[Kind.WAVEFRONT].any()


def test_untrained_experts_keep_weights_and_temperatures(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on small images alone leaves the coding of large ones exactly as it was."""
    monkeypatch.setattr(export, "SMALL_IMAGES", 3)
    torch.manual_seed(5)
    temperature = np.full((3, 8, 3), 7, dtype=np.int8)
    start = replace(from_denoisers(untrained([SHAPE] * 5)), temperature=temperature)
    start.save(tmp_path / "start.safetensors")
    # The large validation images would change the temperatures, had their experts been trained.
    settings = replace(
        config,
        start_from=str(tmp_path / "start.safetensors"),
        validation=(*config.validation, Source("photos", exclude=("gray.png",), crop=70)),
    )
    trainer = Trainer(settings, tmp_path / "run")
    trainer.update(batches_of(config, 4)[SMALL], 1.0)
    trainer.save()
    model = export_checkpoint(trainer.checkpoint, settings, tmp_path / "model.safetensors")
    before, after = start.tensors(), model.tensors()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split(".")[0] for name in changed} == {"small", "calibration"}
    assert (model.temperature[Kind.LARGE] == 7).all()
    assert (model.temperature[Kind.WAVEFRONT] == 7).all()
    assert (model.temperature[Kind.SMALL] != 7).any()


def test_gray_images_do_not_calibrate(config: TrainingConfig) -> None:
    """Calibration codes three channels, which in gray images are one and the same."""
    colour = Source("photos", exclude=("gray.png",))
    planes = replace(colour, transform="photo_ycc_plane", factors=(1.0, 1.0))
    images = calibration_images(replace(config, validation=(colour, planes)))
    assert len(images) == export.LARGE_IMAGES
    assert not any((image[..., 0] == image[..., 1]).all() for image in images)
    assert calibration_images(replace(config, validation=(planes,))) == []


def test_calibration_shortens_the_code(photo: Photo) -> None:
    """Distributions made too narrow on purpose: calibration widens them again."""
    torch.manual_seed(2)
    denoisers = untrained([SHAPE] * 5)
    with torch.no_grad():
        for head in denoisers[WAVEFRONT].heads:
            head.bias[10:15] -= 3  # octaves
    images = [photo(64, 60, 3, seed) for seed in range(3)]
    green_first = [np.ascontiguousarray(image[..., [1, 0, 2]]) for image in images]
    model = from_denoisers(denoisers)
    fitted = fit_temperatures(model, green_first, np.random.default_rng(10), share=1.0)

    def length(m: Model) -> int:
        return sum(map(len, Codec(m).encode_many(images)))

    assert length(fitted) < length(model)
    assert fitted.temperature[Kind.WAVEFRONT].max() > 0
    assert not fitted.temperature[Kind.LARGE].any()
    assert fitted.model_id != model.model_id
