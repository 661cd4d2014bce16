import io
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import HEIC, QUARTERS, black_png
from PIL import Image, ImageCms, PngImagePlugin

from ml.data import photos
from ml.data.photos import inspect, resize


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000"])
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
    several = "it is animated or has several pages; save one of them"
    reasons = {
        b"": "the file is empty (0 bytes)",
        jpeg[: len(jpeg) // 2]: "it is a JPEG that is cut short",
        jpeg[:20]: "it is a JPEG that is cut short or damaged",
        _save(picture(0), "PNG")[:-3000]: "it is a PNG that is cut short",
        _save(picture(0), "GIF")[:-900]: "it is a GIF that is cut short",
        HEIC[:-200]: "it is a HEIC that is ",
        _save(deep, "PNG"): "its pixels are of mode I;16 (16-bit or floating point); save it with 8 bits a channel",
        _save(picture(0), "GIF", **_frames(picture, 3)): several,
        _save(picture(0), "WEBP", **_frames(picture, 2)): several,
        _save(picture(0), "TIFF", **_frames(picture, 2)): several,
        _save(picture(0), "PNG", **_frames(picture, 2)): several,
        black_png(10_000, 10_000): "it has 100 megapixels; at most 64 are read",
        black_png(20_000, 20_000): "it has far more than 64 megapixels",
        _save(Image.new("RGB", (4100, 4100)), "WEBP"): "it has 17 megapixels; at most 16 of WEBP are read",
    }
    for data, reason in reasons.items():
        facts, pixels = inspect(data)
        assert facts.problem is not None, reason
        assert facts.problem.startswith(reason)
        assert pixels is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html><title>SECRET 404</title>", "an HTML page"),
        (b"\xef\xbb\xbf\n<HTML><body>SECRET", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:SECRET", "a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s1--SECRET.jpg", "a git-annex pointer"),
        (b"%PDF-1.7 SECRET", "a PDF"),
        (b"\0\0\0\x20ftypisom\0\0\2\0SECRET", "a video (MP4 or QuickTime)"),
        (b"\0\0\0\x18ftypcrx SECRET", "a camera's raw file"),
        (b"RIFF\0\0\0\0AVI SECRET", "a video (AVI)"),
        (b"PK\3\4SECRET", "a zip archive"),
        (b"<?xml version='1.0'?>SECRET", "an XML file"),
        (b"<svg xmlns='SECRET'>", "an SVG drawing"),
        (b"\xff\x0aSECRET", "a JPEG XL picture"),
        (bytes(5000), "a file of zeros"),
        (b"password: SECRET", "a text file"),
        ("Käfer 猫 SECRET".encode(), "a text file"),
        (b"x" * 63 + "é SECRET".encode(), "a text file"),
        ("SECRET".encode("utf-16"), "a text file"),
        (b"II*\0\x10\0\0\0CR\2\0SECRET", "a camera's raw file: export it as JPEG"),
        (b"\x01\xfe\x80\x81SECRET", "a file of an unknown kind"),
    ],
)
def test_what_is_no_photo_is_named_for_what_it_is_and_never_by_its_bytes(data: bytes, kind: str) -> None:
    problem = inspect(data)[0].problem or ""
    assert problem.startswith(f"it is no photo but {kind}")
    assert "SECRET" not in problem


@pytest.mark.parametrize("tags", [{254: 1}, {50706: b"\1\4\0\0"}])
def test_the_preview_of_a_raw_file_is_not_taken_for_the_photo(tags: dict, picture) -> None:
    file = io.BytesIO()
    picture(1).save(file, "TIFF", tiffinfo=tags)
    assert inspect(file.getvalue())[0].problem == "it is a camera's raw file: export it as JPEG"


def test_heic_is_read_under_any_name() -> None:
    facts, pixels = inspect(HEIC)
    assert (facts.problem, facts.format, facts.width, facts.height) == (None, "HEIF", 96, 64)
    assert pixels is not None
    corners = pixels[8, 8], pixels[8, 88], pixels[56, 8], pixels[56, 88]
    assert np.abs(np.array(corners, int) - np.array(QUARTERS)).max() < 8


def test_a_photo_that_lacks_only_its_end_marker_is_used(picture) -> None:
    for options in ({"quality": 90}, {"quality": 90, "progressive": True}, {"quality": 90, "subsampling": 0}):
        jpeg = _save(picture(0, 800, 600), "JPEG", **options)
        facts, pixels = inspect(jpeg[:-2])
        assert facts.problem is None
        np.testing.assert_array_equal(pixels, inspect(jpeg)[1])
        assert inspect(jpeg[:-1])[0].problem is None
        assert inspect(jpeg[: 9 * len(jpeg) // 10])[0].problem == "it is a JPEG that is cut short"


@pytest.mark.parametrize("compressed", [True, False])
def test_long_texts_in_a_png_cost_no_photo(compressed: bool, picture) -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(3):
        texts.add_text(f"note {number}", "x" * 3_000_000, zip=compressed)
    facts, pixels = inspect(_save(picture(0), "PNG", pnginfo=texts))
    assert facts.problem is None
    np.testing.assert_array_equal(pixels, np.asarray(picture(0)))


def _profile(red: tuple[float, float] = (0.680, 0.320)) -> bytes:
    """Return an ICC profile with the primaries of Display P3: sRGB's with its numbers changed (CIE XYZ, D50)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    columns = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    for place in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12):
        if values := columns.get(bytes(data[place : place + 4])):
            start = int.from_bytes(data[place + 4 : place + 8], "big") + 8
            data[start : start + 12] = b"".join(
                round(value * 65536).to_bytes(4, "big", signed=True) for value in values
            )
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Zoo1".encode("utf-16-be"))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 100}), ("TIFF", {})])
def test_colours_are_converted_to_srgb_by_their_profile(kind: str, options: dict) -> None:
    image = Image.new("RGB", (64, 64), (230, 120, 30))
    facts, pixels = inspect(_save(image, kind, icc_profile=_profile(), **options))
    assert facts.problem is None
    assert pixels is not None
    assert np.abs(pixels[32, 32].astype(int) - (247, 112, 0)).max() <= 6, "as a viewer shows it"


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_a_profile_counts_in_other_modes_too(mode: str) -> None:
    image = Image.new("RGB", (64, 64), (230, 120, 30))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    pixels = inspect(_save(image, "PNG", icc_profile=_profile()))[1]
    assert pixels is not None
    assert np.abs(pixels[32, 32].astype(int) - (247, 112, 0)).max() <= 8


def test_a_profile_that_is_srgb_or_broken_or_does_not_fit_changes_no_pixel(picture) -> None:
    plain = inspect(_save(picture(0), "PNG"))[1]
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"junk", b"", _profile()[:200]):
        facts, pixels = inspect(_save(picture(0), "PNG", icc_profile=profile))
        assert facts.problem is None
        np.testing.assert_array_equal(pixels, plain)
    grey = picture(0).convert("L")
    facts, pixels = inspect(_save(grey, "PNG", icc_profile=_profile()))
    np.testing.assert_array_equal(pixels, inspect(_save(grey, "PNG"))[1], "an RGB profile says nothing of grey")
    assert inspect(_save(picture(0).convert("CMYK"), "JPEG", icc_profile=_profile()))[0].problem is None


def test_scans_of_a_progressive_jpeg_are_capped(picture) -> None:
    jpeg = _save(picture(0), "JPEG", progressive=True)
    assert inspect(jpeg)[0].problem is None
    start = jpeg.rindex(b"\xff\xda")
    bomb = jpeg[:start] + jpeg[start:-2] * 300 + jpeg[-2:]
    assert (inspect(bomb)[0].problem or "").startswith("it is a JPEG of 201 scans or more; at most 200 are read")
    behind = jpeg + b"\xff\xda\0\2" * 1000
    assert inspect(behind)[0].problem is None, "what a phone writes behind the photo is no scan"


def test_pages_of_a_tiff_are_not_counted() -> None:
    tags = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1))
    pages = [b"II*\0\x0a\0\0\0\x7f\0"]
    size = 2 + 12 * len(tags) + 4
    for number in range(20_000):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", 10 + size * (number + 1)))
    started = time.process_time()
    assert "several pages" in (inspect(b"".join(pages)[:-4] + bytes(4))[0].problem or "")
    assert time.process_time() - started < 1, "to count them takes half a minute"


def test_two_large_photos_at_once_take_the_memory_of_one(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(black_png(8000, 7999, transparent=True))
    code = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ml.data import photos
data = Path(sys.argv[1]).read_bytes()
photos.inspect(data[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(2) as pool:
    assert [facts.problem for facts, _ in pool.map(photos.inspect, [data, data])] == [None, None]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    # Through a shell: a process begins with the peak of the one that it was forked from.
    command = ["/bin/sh", "-c", '"$0" -c "$1" "$2"', sys.executable, code, str(tmp_path / "large.png")]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 350


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK"])
def test_a_very_large_picture_looks_as_a_smaller_one_does(mode: str, picture) -> None:
    image = picture(0).resize((4200, 3000)).convert(mode)
    small = image.convert("RGB").resize((512, 366), Image.Resampling.BOX)
    facts, pixels = inspect(_save(image, "TIFF" if mode == "CMYK" else "PNG", compress_level=1))
    assert (facts.problem, facts.width, facts.height) == (None, 4200, 3000)
    assert pixels is not None
    assert pixels.shape == (366, 512, 3)
    assert np.abs(pixels.astype(int) - np.asarray(small)).mean() < 3


def test_a_truncated_tail_is_noticed_even_if_little_is_missing(picture) -> None:
    jpeg = _save(picture(0, 800, 600), "JPEG")
    assert "cut short" in (inspect(jpeg[:-400])[0].problem or "")


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
