"""The sample photos: drawings of animals, a folder a class, for a first run without photos of one's own."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFilter, ImageOps

from ml.data.crops import BOXES, COLUMNS, Box
from ml.data.drawings import ANIMALS, REACH, draw_bust, draw_figure, extent, individual
from ml.data.pen import Colour, Pen, tint
from ml.data.signature import SIGNATURE
from ml.errors import DataError, StorageError

TRAINED = ("tiger", "fox", "elephant")
OVERSAMPLING = 3  # drawn larger and scaled down, for smooth edges


@dataclass(frozen=True)
class Scene:
    """Where an animal stands."""

    sky: tuple[Colour, Colour]  # at the top and at the horizon
    ground: Colour
    leaves: Colour
    crown: float  # half-width over half-height of the trees' crowns; 0: conifers
    specks: Colour  # flowers, flakes, leaves on the ground, stars
    night: bool = False  # the specks are stars, the light is dim and blue


SCENES = (
    Scene(((112, 172, 232), (206, 230, 246)), (116, 170, 76), (70, 130, 60), 1, (250, 236, 140)),  # meadow
    Scene(((128, 190, 228), (238, 226, 196)), (226, 200, 146), (96, 140, 70), 2, (196, 168, 116)),  # desert
    Scene(((176, 194, 220), (236, 241, 249)), (238, 242, 250), (70, 100, 92), 0, (255, 255, 255)),  # snow
    Scene(((196, 206, 214), (240, 228, 206)), (170, 126, 66), (214, 112, 36), 1.2, (222, 90, 36)),  # autumn
    Scene(((240, 176, 96), (252, 226, 164)), (208, 172, 98), (122, 124, 52), 2.6, (168, 132, 66)),  # savanna
    Scene(((70, 112, 78), (140, 170, 122)), (94, 102, 58), (46, 84, 50), 0, (150, 160, 90)),  # forest
    Scene(((20, 24, 62), (64, 76, 132)), (48, 64, 74), (24, 38, 46), 1, (250, 248, 220), night=True),
)


class Drawing(NamedTuple):
    """A drawing, and where on it the animal's head is."""

    picture: Image.Image
    head: Box


def draw_samples(
    root: Path,
    per_class: int = 40,
    others: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the drawings below `root`, one folder a class, and return how many they are.

    They are RGB JPEG files, 120 to 160 px on the longest side: `per_class` of each animal that has a
    classifier and `others` of each other animal. Beside them a table `boxes.csv` a class says where the heads
    are. The same seed gives the same bytes. The folder appears when it is complete; one that holds all these
    drawings already is left as it is, whatever its seed. `progress` is told how many are done, and of how many.

    Raises:
        DataError: `root` holds something else.
        StorageError: it can't be written.
    """
    names = [(name, i) for name in ANIMALS for i in range(per_class if name in TRAINED else others)]
    paths = [Path(name, f"{name}_{i:03}.jpg") for name, i in names]
    if all((root / path).is_file() for path in paths):
        return len(paths)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"Expected nothing, or the {len(paths)} sample drawings, at {root}; found something else there. "
            "Nothing was written. Move it away, or name another folder."
        )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as aside:
            heads: dict[Path, Box] = {}
            signed = Image.Exif()
            signed[ExifTags.Base.Software] = SIGNATURE
            for done, ((name, i), path) in enumerate(zip(names, paths, strict=True), start=1):
                target = Path(aside, "drawings", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng([seed, i, *name.encode()])
                picture, heads[target] = draw_picture(name, rng)
                picture.save(target, quality=int(rng.integers(80, 94)), exif=signed)
                if progress:
                    progress(done, len(paths))
            _write_boxes(heads)
            os.replace(Path(aside, "drawings"), root)
    except OSError as error:
        raise StorageError(
            f"Could not write the sample drawings to {root}: {error.strerror or error}. "
            "Nothing was changed. Make room or mend the rights, then retry."
        ) from error
    return len(paths)


def draw_picture(name: str, rng: np.random.Generator) -> Drawing:
    """A drawing, RGB, of the animal in some pose, place and light."""
    sides = OVERSAMPLING * rng.integers(120, 161) * np.array([1, rng.uniform(0.66, 0.8)])
    width, height = (int(side) for side in (sides if rng.random() < 0.6 else sides[::-1]))
    picture = Image.new("RGB", (width, height))
    scene, animal = SCENES[rng.integers(len(SCENES))], individual(name, rng)
    if rng.random() < (0.35 if width > height else 0.6):
        _scenery(picture, scene, height * rng.uniform(0.4, 0.9), rng)
        picture = picture.filter(ImageFilter.BoxBlur(OVERSAMPLING * rng.uniform(0.5, 3)))
        broad = animal.kind.ears == "fan" or not animal.kind.face
        radius = min(width, height) / (5 if broad else 4) * rng.uniform(0.8, 1.2)
        place = width * rng.uniform(0.36, 0.5) + 1j * height * rng.uniform(0.4, 0.5)
        head = draw_bust(Pen(picture, radius, place), animal, rng)
    else:
        left, top, right, bottom = extent(animal)
        unit = min(0.98 * width / (right - left), 0.86 * height / (bottom - top)) * rng.uniform(0.72, 1)
        feet = rng.uniform(max(0.7 * height, (bottom - top) * unit), 0.94 * height)
        _scenery(picture, scene, feet - height * rng.uniform(0.1, 0.35), rng)
        hip = rng.uniform(-left * unit, width - right * unit) + 1j * (feet - bottom * unit)
        pen = Pen(picture, unit, hip)
        pen.disc(0.55 + 1j * bottom, 0.85, (20, 20, 30, 90), 0.07)
        head = draw_figure(pen, animal, rng)
        if rng.random() < 0.6:
            for blade in _scattered(rng, 40, width, feet + 0.01 * height, 1.02 * height):
                bend, size = rng.uniform(-0.5, 0.5), 0.07 * height * rng.uniform(0.4, 1)
                grass = tint(scene.ground, rng.uniform(0.6, 0.95))
                Pen(picture, size, blade).blob(np.array([-0.15, 0.15, bend - 1j]), grass)
    picture, mirrored = picture.reduce(OVERSAMPLING), rng.random() < 0.5
    if mirrored:
        picture = ImageOps.mirror(picture)
    return Drawing(_exposed(picture, scene, rng), _head(head, width, height, mirrored))


def _head(pen: Pen, width: int, height: int, mirrored: bool) -> Box:
    """The box of a head that was drawn with this pen on a picture of this size."""
    x, y, reach = pen.origin.real, pen.origin.imag, abs(pen.scale) * REACH
    x = width - x if mirrored else x
    return Box((x - reach) / width, (y - reach) / height, (x + reach) / width, (y + reach) / height)


def _write_boxes(boxes: dict[Path, Box]) -> None:
    for folder in {path.parent for path in boxes}:
        with Path(folder, BOXES).open("w", newline="", encoding="utf-8") as lines:
            table = csv.writer(lines)
            table.writerow(COLUMNS)
            for path, box in boxes.items():
                if path.parent == folder:
                    table.writerow([path.name, *(round(float(side), 4) for side in astuple(box))])


def _scenery(picture: Image.Image, scene: Scene, horizon: float, rng: np.random.Generator) -> None:
    width, height = picture.size
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - ramp) * np.array(scene.sky[0]) + ramp * np.array(scene.sky[1])
    picture.paste(Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8)))
    pen = Pen(picture)
    if rng.random() < 0.5:
        sun = complex(width * rng.random(), horizon * rng.random())
        pen.disc(sun, height * rng.uniform(0.04, 0.1), (255, 250, 220))
    if scene.night:
        for star in _scattered(rng, 40, width, 0, horizon):
            pen.disc(star, 0.006 * height * rng.uniform(0.5, 1), scene.specks)
    x = np.linspace(0, width, 30)
    hills = horizon - 0.05 * height * (1 + np.sin(x / width * rng.uniform(4, 9) + rng.uniform(0, 6)))
    plain = horizon + 0.012 * height * np.sin(x / width * rng.uniform(8, 20))
    corners = [width + 1j * height, 1j * height]
    pen.blob(np.append(x + 1j * hills, corners), tint(scene.leaves, 1.15))
    for foot in _scattered(rng, int(rng.integers(0, 7)), width, horizon, horizon + 0.05 * height):
        _tree(pen.at(foot, height * rng.uniform(0.15, 0.5)), scene, rng)
    pen.blob(np.append(x + 1j * plain, corners), scene.ground)
    for spot in _scattered(rng, 60, width, horizon + 0.03 * height, height):
        colour = scene.specks if not scene.night and rng.random() < 0.4 else tint(scene.ground, 0.92)
        pen.disc(spot, 0.012 * height, colour, 0.006 * height)


def _tree(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    """A tree, 1 high, that stands at 0."""
    pen.tube((92, 68, 48), (0, 0, 0.04), (rng.uniform(-0.03, 0.03), -0.6, 0.025))
    leaves = tint(scene.leaves, rng.uniform(0.8, 1.15))
    if scene.crown:
        for shift in rng.uniform(-0.12, 0.12, (4, 2)):
            pen.disc(scene.crown * shift[0] - 0.72j + 0.5j * shift[1], 0.18 * scene.crown, leaves, 0.2)
    else:
        for level in (0.15, 0.4, 0.65):
            half = 0.3 - 0.3 * level
            pen.blob(np.array([-half, half, -0.4j]) - 1j * level, leaves)


def _scattered(rng: np.random.Generator, count: int, width: float, top: float, bottom: float) -> Iterator[complex]:
    """Places in a strip of the picture, from the back to the front."""
    ys = np.sort(rng.uniform(top, max(top, bottom), count))
    return (complex(x, y) for x, y in zip(rng.uniform(0, width, count), ys, strict=True))


def _exposed(picture: Image.Image, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The picture with the scene's light, some blur and noise."""
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    light = rng.uniform(0.8, 1.12) * rng.uniform(0.96, 1.04, 3)
    if scene.night:
        light *= np.array([0.77, 0.8, 0.96])
    grain = rng.normal(0, rng.uniform(1, 5), (picture.height, picture.width, 1))
    return Image.fromarray((np.asarray(picture, np.float32) * light + grain).clip(0, 255).astype(np.uint8))
