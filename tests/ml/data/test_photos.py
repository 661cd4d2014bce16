import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import black_png
from PIL import Image

from ml.data import photos
from ml.data.photos import inspect, resize


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_gives_its_pixels_and_facts(kind: str, picture) -> None:
    facts, pixels = inspect(_save(picture(0), kind))
    assert (facts.problem, facts.format, facts.width, facts.height) == (None, kind, 96, 64)
    assert pixels is not None
    assert (pixels.shape, pixels.dtype) == ((64, 96, 3), np.uint8)
    assert np.abs(pixels.astype(int) - np.asarray(picture(0))).mean() < 8
    assert facts.brightness == pytest.approx(np.asarray(picture(0).convert("L")).mean(), abs=2)
    assert facts.thumbnail is not None
    assert len(facts.thumbnail) == 192


def test_a_phone_photo_with_a_preview_behind_it_is_one_photo(picture) -> None:
    data = _save(picture(0), "MPO", save_all=True, append_images=[picture(1)])
    facts, pixels = inspect(data)
    assert (facts.problem, facts.format) == (None, "MPO")
    assert pixels is not None
    assert np.abs(pixels.astype(int) - np.asarray(picture(0))).mean() < 8


def test_a_large_photo_is_kept_at_512_with_its_own_size_in_the_facts(picture) -> None:
    facts, pixels = inspect(_save(picture(0, 1500, 900), "JPEG"))
    assert (facts.width, facts.height) == (1500, 900)
    assert pixels is not None
    assert pixels.shape == (307, 512, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_seen_as_a_viewer_shows_it(orientation: int, kind: str) -> None:
    shown = np.full((60, 90, 3), 40, np.uint8)
    shown[:20, :30] = (250, 0, 0)
    shown[40:, :] = (0, 0, 250)
    undo = {  # what the camera stored, so that the orientation turns it into what is shown
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.transpose(1, 0, 2),
        6: np.rot90(shown), 7: np.rot90(shown, 2).transpose(1, 0, 2), 8: np.rot90(shown, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    facts, pixels = inspect(_save(Image.fromarray(undo[orientation].copy()), kind, exif=exif))
    assert (facts.problem, facts.width, facts.height) == (None, 90, 60)
    assert pixels is not None
    assert np.abs(pixels.astype(int) - shown).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int, picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    facts, pixels = inspect(_save(picture(0), "JPEG", exif=exif))
    assert (facts.problem, facts.width, facts.height) == (None, 96, 64)
    assert pixels is not None
    assert pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_broken_exif_block_costs_no_photo(exif: bytes, picture) -> None:
    assert inspect(_save(picture(0), "JPEG", exif=exif))[0].problem is None


def test_cmyk_keeps_its_colours(picture) -> None:
    facts, pixels = inspect(_save(picture(0).convert("CMYK"), "JPEG", quality=95))
    assert (facts.problem, facts.mode) == (None, "CMYK")
    assert pixels is not None
    assert np.abs(pixels.astype(int) - np.asarray(picture(0))).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (16, 16, 48, 48))
    facts, pixels = inspect(_save(image.convert(mode), "PNG"))
    assert (facts.problem, facts.mode) == (None, mode)
    assert pixels is not None
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[32, 32].tolist() == [200, 200, 200]


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_rgb(mode: str, picture) -> None:
    facts, pixels = inspect(_save(picture(0).convert(mode), "PNG"))
    assert (facts.problem, facts.mode) == (None, mode)
    assert pixels is not None
    assert pixels.shape == (64, 96, 3)


def test_one_row_of_pixels_is_described_and_left_to_the_expectations(picture) -> None:
    facts, pixels = inspect(_save(picture(0).crop((0, 0, 96, 1)), "PNG"))
    assert (facts.problem, facts.height) == (None, 1)
    assert pixels is not None
    assert inspect(_save(Image.new("RGB", (3000, 1)), "PNG"))[0].problem is None


def _frames(picture, count: int) -> dict:
    return {"save_all": True, "append_images": [picture(seed) for seed in range(1, count)]}


def test_why_a_file_is_no_photo_is_said_in_words(picture) -> None:
    jpeg = _save(picture(0), "JPEG")
    deep = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    reasons = {
        b"": "the file is empty (0 bytes)",
        b"<!DOCTYPE html><title>404 Not Found</title>": "it is no picture: it begins with b'<!DOCTYPE html><'",
        b"%PDF-1.7 and so on": "it is no picture: it begins with b'%PDF-1.7 and so '",
        jpeg[: len(jpeg) // 2]: "it does not decode: image file is truncated",
        jpeg[:20]: "it is no picture: it begins with",
        _save(picture(0), "PNG")[:-3000]: "it does not decode: image file is truncated",
        _save(deep, "PNG"): "its pixels are of mode I;16 (16-bit or floating point); save it with 8 bits a channel",
        _save(
            picture(0), "GIF", **_frames(picture, 3)
        ): "it is animated or has several pages (3 frames); save one of them",
        _save(picture(0), "WEBP", **_frames(picture, 2)): "it is animated or has several pages (2 frames)",
        _save(picture(0), "TIFF", **_frames(picture, 2)): "it is animated or has several pages (2 frames)",
        _save(picture(0), "PNG", **_frames(picture, 2)): "it is animated or has several pages (2 frames)",
        black_png(10_000, 10_000): "it has 100 megapixels; at most 64 are read",
        black_png(20_000, 20_000): "it has far more than 64 megapixels",
    }
    for data, reason in reasons.items():
        facts, pixels = inspect(data)
        assert facts.problem is not None, reason
        assert facts.problem.startswith(reason)
        assert pixels is None


def test_a_truncated_tail_is_noticed_even_if_little_is_missing(picture) -> None:
    jpeg = _save(picture(0, 800, 600), "JPEG")
    assert "truncated" in (inspect(jpeg[:-400])[0].problem or "")


def test_a_file_of_more_than_100_megabytes_is_not_decoded() -> None:
    facts, _ = inspect(bytes(photos.MAX_BYTES + 1))
    assert facts.problem == "the file has 100 MB; at most 100 are read"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.integers(0, 4000))
def test_whatever_a_file_holds_nothing_is_raised(picture, noise: bytes, kind: str, place: int) -> None:
    data = _save(picture(0), kind)
    place %= len(data)
    facts, pixels = inspect(data[:place] + noise + data[place + len(noise) :])
    assert (facts.problem is None) == (pixels is not None)


def test_facts_tell_dark_from_bright_flat_from_rich_and_blurred_from_sharp(picture) -> None:
    def facts(image: Image.Image) -> photos.Facts:
        return inspect(_save(image, "PNG"))[0]

    sharp, blurred = facts(picture(0)), facts(picture(0).resize((6, 4)).resize((96, 64), Image.Resampling.BICUBIC))
    flat = facts(Image.new("RGB", (96, 64), (10, 10, 10)))
    assert (flat.brightness, flat.contrast, flat.sharpness, flat.look) == (10, 0, 0, bytes([10]) * 1024)
    assert sharp.sharpness > 2 * blurred.sharpness > 0
    assert sharp.contrast > 5


def test_the_look_is_the_photo_in_grey_on_32_by_32() -> None:
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 1, 3))
    look = inspect(_save(Image.fromarray(ramp), "PNG"))[0].look
    assert look is not None
    grey = np.frombuffer(look, np.uint8).reshape(32, 32)
    np.testing.assert_allclose(grey, np.tile(ramp[0, 1::3, 0], (32, 1)), atol=3)


def test_resizing_stretches_to_the_height_and_width_asked_for(picture) -> None:
    resized = resize(np.asarray(picture(0)), 30, 50)
    assert (resized.shape, resized.dtype) == ((30, 50, 3), np.uint8)
    assert resized.mean() == pytest.approx(np.asarray(picture(0)).mean(), abs=2)
