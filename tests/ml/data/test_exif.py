import io
from datetime import UTC, datetime

import pytest
from PIL import ExifTags, Image

from ml.data import photos

SHOT = datetime(2024, 5, 12, 6, 31, 8, tzinfo=UTC).timestamp()
TIME, FRACTION, SERIAL = (
    ExifTags.Base.DateTimeOriginal,
    ExifTags.Base.SubsecTimeOriginal,
    ExifTags.Base.BodySerialNumber,
)


def jpeg(picture: Image.Image, camera: dict[int, object], shot: dict[int, object]) -> bytes:
    """Return a JPEG with these EXIF tags."""
    tags = Image.Exif()
    tags.update(camera)
    tags.get_ifd(ExifTags.IFD.Exif).update(shot)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=tags)
    return buffer.getvalue()


def _taken(picture: Image.Image, camera: dict[int, object], shot: dict[int, object]) -> tuple[object, object]:
    facts, pixels = photos.inspect(jpeg(picture, camera, shot))
    assert facts.problem is None
    assert pixels is not None
    return facts.taken, facts.camera


@pytest.mark.parametrize(
    ("shot", "taken"),
    [
        ({TIME: "2024:05:12 06:31:08"}, SHOT),
        ({TIME: "2024:05:12 06:31:08", FRACTION: "25"}, SHOT + 0.25),
        ({TIME: "2024:05:12 06:31:08", FRACTION: "x"}, SHOT),
        ({TIME: "2024-05-12 06:31:08\0"}, SHOT),
        ({TIME: "0000:00:00 00:00:00"}, None),
        ({TIME: "1970:01:01 00:00:00"}, None),
        ({TIME: "2024:13:45 99:00:00"}, None),
        ({TIME: "    :  :     :  :  "}, None),
        ({TIME: ""}, None),
        ({ExifTags.Base.DateTime: "2024:05:12 06:31:08"}, None),
        ({}, None),
    ],
)
def test_the_time_is_that_of_the_shot_or_unknown(shot: dict, taken: float | None, picture) -> None:
    assert _taken(picture(0), {}, shot)[0] == taken


@pytest.mark.parametrize(
    ("camera", "shot", "name"),
    [
        ({ExifTags.Base.Make: "RECONYX", ExifTags.Base.Model: "HC600"}, {}, "RECONYX HC600"),
        ({ExifTags.Base.Model: "HC600\0\0"}, {SERIAL: "H123"}, "HC600 #H123"),
        ({ExifTags.Base.Model: "HC600"}, {SERIAL: "0000"}, "HC600"),
        ({}, {}, None),
    ],
)
def test_the_camera_is_make_model_and_serial_number(camera: dict, shot: dict, name: str | None, picture) -> None:
    assert _taken(picture(0), camera, shot)[1] == name


@pytest.mark.parametrize(
    "broken", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_tags_are_no_fault_of_the_photo(broken: bytes, picture) -> None:
    buffer = io.BytesIO()
    picture(0).save(buffer, "JPEG", exif=broken)
    facts, pixels = photos.inspect(buffer.getvalue())
    assert (facts.problem, facts.taken, facts.camera) == (None, None, None)
    assert pixels is not None
