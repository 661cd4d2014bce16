"""When a photo was taken, and by which camera, as the camera wrote it into the file."""

import re
from datetime import UTC, datetime

from PIL import ExifTags, Image

EARLIEST = 1990  # clocks that were never set begin before
_TIME = re.compile(r"(\d{4})[:.-](\d\d)[:.-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


def taken(image: Image.Image) -> tuple[float | None, str | None]:
    """Return when a photo was taken, in seconds by the camera's own clock, and the camera.

    The camera is its make and model, with ` #` and the serial number if the camera gives one. `None` stands for what
    the file doesn't say, or says in a broken way; nothing is raised. The time is that of the shot (DateTimeOriginal),
    never that of a later change, which an export gives to all photos alike.
    """
    try:
        tags = image.getexif()
        shot = tags.get_ifd(ExifTags.IFD.Exif)
        name = " ".join(filter(None, (_text(tags.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))))
        serial = _text(shot.get(ExifTags.Base.BodySerialNumber))
        camera = f"{name} #{serial}" if serial.strip("0") else name
        return _seconds(shot.get(ExifTags.Base.DateTimeOriginal), shot.get(ExifTags.Base.SubsecTimeOriginal)), (
            camera or None
        )
    except Exception:  # whatever is broken in the tags is no fault of the picture
        return None, None


def _text(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:80]


def _seconds(time: object, fraction: object) -> float | None:
    found = _TIME.match(_text(time))
    if not found or int(found[1]) < EARLIEST:
        return None
    try:
        seconds = datetime(*map(int, found.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    digits = _text(fraction)
    return seconds + (float(f"0.{digits}") if digits.isascii() and digits.isdecimal() else 0.0)
