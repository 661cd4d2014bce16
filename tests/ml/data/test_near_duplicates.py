import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from ml.data import photos
from ml.data.near_duplicates import SAME_PICTURE, Fingerprints, likeness, near_duplicate_groups


def _fingerprints(pictures: list[Image.Image]) -> Fingerprints:
    facts = [photos.fingerprint(picture.convert("RGB"), photos.Facts(None)) for picture in pictures]
    looks, thumbnails = (
        np.frombuffer(b"".join(getattr(each, name) for each in facts), np.uint8).reshape(len(facts), size)
        for name, size in (("look", 1024), ("thumbnail", 192))
    )
    return Fingerprints(looks, thumbnails)


def _names(count: int) -> list[str]:
    """Return digests whose order is unlike that of the pictures, as with real ones."""
    return [f"{index * 7919 % 10007:05d}" * 13 for index in range(count)]


def _groups(pictures: list[Image.Image]) -> list[str]:
    return near_duplicate_groups(_names(len(pictures)), _fingerprints(pictures))


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def _crop(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cut these shares of width and height off the four sides."""
    width, height = picture.size
    return picture.crop(
        (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def _flash(picture: Image.Image, fall: float, contrast: float = 1, lift: float = 0) -> Image.Image:
    """Return a picture as an infra-red flash shows it: grey, the light falling off with the square of the radius."""
    grey = np.asarray(picture.convert("L"), np.float64)
    height, width = grey.shape
    y, x = np.mgrid[:height, :width]
    squared = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width / 2) ** 2
    return Image.fromarray((grey * np.exp(-fall * squared) * contrast + lift).clip(0, 255).astype(np.uint8))


def _banner(picture: Image.Image) -> Image.Image:
    """Write what a camera trap writes: the date and the temperature on black, above and below."""
    banner = picture.copy()
    draw = ImageDraw.Draw(banner)
    for top in (0, banner.height - banner.height // 12):
        draw.rectangle((0, top, banner.width, top + banner.height // 12), fill="black")
        draw.text((banner.width // 10, top), "2024-05-12  06:31  12 C  RECONYX", fill="white")
    return banner


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": lambda picture: _jpeg(picture, 25),
    "smaller": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "grey": lambda picture: picture.convert("L"),
    "3 % cut off all around": lambda picture: _crop(picture, 0.03, 0.03, 0.03, 0.03),
    "10 % cut off all in all": lambda picture: _crop(picture, 0.05, 0.05, 0.05, 0.05),
    "a banner": _banner,
    "mirrored": ImageOps.mirror,
    "mirrored, cropped and compressed": lambda picture: _jpeg(_crop(ImageOps.mirror(picture), 0, 0.03, 0.06, 0), 40),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_joins_its_original_and_nothing_else(change: str, picture) -> None:
    originals = [picture(seed, 192, 128) for seed in range(25)]
    groups = _groups(originals + [CHANGES[change](original) for original in originals])
    assert groups[:25] == groups[25:]
    assert len(set(groups)) == 25


def test_frames_whose_view_moves_by_a_few_percent_are_tied(picture) -> None:
    scenes = [picture(seed, 300, 200) for seed in range(25)]
    first, second = ([_crop(scene, shift, 0.1, 0.2 - shift, 0.1) for scene in scenes] for shift in (0.1, 0.13))
    groups = _groups(first + second)
    assert groups[:25] == groups[25:]
    assert len(set(groups)) == 25


@pytest.mark.parametrize(("contrast", "lift"), [(1, 0), (0.5, 60)])
@pytest.mark.parametrize("fall", [0.35, 0.85, 1.6])
def test_a_flash_in_common_ties_no_scenes(fall: float, contrast: float, lift: float, picture) -> None:
    scenes = [_flash(picture(seed, 120, 80), fall, contrast, lift) for seed in range(60)]
    assert len(set(_groups(scenes))) == 60


@pytest.mark.parametrize("side", ["across", "down", "corner"])
def test_neither_does_a_light_from_the_side(side: str, picture) -> None:
    y, x = np.mgrid[:80, :120] / np.array([80, 120])[:, None, None]
    light = {"across": x, "down": y, "corner": (x + y) / 2}[side][..., None]
    scenes = [Image.fromarray((np.asarray(picture(seed, 120, 80)) * light).astype(np.uint8)) for seed in range(60)]
    assert len(set(_groups(scenes))) == 60


def test_a_banner_in_common_ties_no_scenes(picture) -> None:
    bright = [_banner(picture(seed, 120, 80)) for seed in range(60)]
    night = [_banner(ImageEnhance.Brightness(picture(seed, 120, 80)).enhance(0.1)) for seed in range(60)]
    assert len(set(_groups(bright))) == 60
    assert len(set(_groups(night))) == 60


def test_a_sky_in_common_ties_no_birds() -> None:
    random = np.random.default_rng(0)
    skies = []
    for _ in range(60):
        sky = np.linspace(120, 220, 80)[:, None, None] + np.array([-60, 0, 30]) + random.normal(0, 2, (80, 120, 3))
        image = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
        corners = [tuple(random.normal((60, 40), (16, 12))) for _ in range(5)]
        ImageDraw.Draw(image).polygon(corners, fill=(40, 30, 30))
        skies.append(image)
    assert max(np.unique(_groups(skies), return_counts=True)[1]) <= 3


def test_blank_photos_are_not_near_each_other() -> None:
    blank = [Image.new("L", (120, 80), grey) for grey in (0, 100, 250)]
    assert len(set(_groups(blank))) == 3


def test_copies_of_an_animal_that_is_cut_out_on_white_are_tied() -> None:
    cut_out = Image.new("RGB", (120, 80), "white")
    ImageDraw.Draw(cut_out).polygon([(45, 25), (80, 30), (70, 60), (60, 45), (50, 65)], fill=(120, 80, 40))
    assert len(set(_groups([cut_out, _jpeg(cut_out, 50)]))) == 1


def test_a_group_is_named_by_its_smallest_hash_and_chains_through_the_middle(picture) -> None:
    scene = picture(3, 300, 200)
    views = [_crop(scene, shift, 0.1, 0.3 - shift, 0.1) for shift in (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)]
    digests = [letter * 64 for letter in "gbcdefh"]
    assert set(near_duplicate_groups(digests, _fingerprints(views))) == {"b" * 16}
    ends = _fingerprints([views[0], views[-1]])
    assert near_duplicate_groups(["g" * 64, "h" * 64], ends) == ["g" * 16, "h" * 16]


@pytest.fixture(scope="module")
def album(picture) -> tuple[list[str], Fingerprints]:
    originals = [picture(seed) for seed in range(8)]
    return _names(16), _fingerprints([*originals, *(_jpeg(original, 25) for original in originals)])


@settings(max_examples=25)
@given(order=st.permutations(range(16)))
def test_the_order_of_the_photos_changes_no_group(album, order: list[int]) -> None:
    names, fingerprints = album
    groups = near_duplicate_groups(names, fingerprints)
    assert len(set(groups)) == 8
    shuffled = near_duplicate_groups([names[index] for index in order], fingerprints[np.array(order)])
    assert shuffled == [groups[index] for index in order]


@settings(max_examples=25)
@given(before=st.sets(st.integers(0, 15)))
def test_what_was_compared_before_changes_no_group(album, before: set[int]) -> None:
    names, fingerprints = album
    places = np.array(sorted(before), np.intp)
    earlier = [names[place] for place in places]
    known = dict(zip(earlier, near_duplicate_groups(earlier, fingerprints[places]), strict=True))
    groups = near_duplicate_groups(names, fingerprints)
    assert near_duplicate_groups(names, fingerprints, known) == groups
    # Photos of which some are gone are compared once more: they may have been what tied others.
    assert near_duplicate_groups(names, fingerprints, known | {"f" * 64: groups[0]}) == groups


def test_pairs_are_found_across_blocks_too() -> None:
    random = np.random.default_rng(0)
    looks = random.integers(0, 256, (2600, 1024), np.uint8)
    for one, other in ((3, 2590), (1030, 1099), (255, 256)):
        looks[other] = looks[one]
    groups = near_duplicate_groups(_names(2600), Fingerprints(looks, np.zeros((2600, 192), np.uint8)))
    assert (groups[2590], groups[1099], groups[256]) == (groups[3], groups[1030], groups[255])
    assert len(set(groups)) == 2597


def test_likeness_tells_the_same_picture_from_the_next_frame(picture) -> None:
    scene = picture(3, 240, 160)
    with_an_animal = scene.copy()
    ImageDraw.Draw(with_an_animal).ellipse((110, 80, 150, 105), fill=(150, 90, 40))
    frames = [scene, _jpeg(scene, 70), scene.resize((90, 60)), ImageOps.mirror(scene), with_an_animal]
    assert len(set(_groups(frames))) == 1
    looks = _fingerprints(frames).looks
    alike = likeness(looks[[0, 0, 0, 0]], looks[[1, 2, 3, 4]])
    assert (alike[:3] >= SAME_PICTURE).all()
    assert alike[3] < SAME_PICTURE


def test_no_photos_have_no_groups() -> None:
    assert near_duplicate_groups([], _fingerprints([])) == []
