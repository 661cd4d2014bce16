"""One photo: from its bytes to pixels and to the facts that the manifest keeps."""

import io
import math
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from ml.data import exif, jpeg, kinds, png
from ml.data.signature import SIGNATURE

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif"}
    | {".tiff", ".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx"}
)
"""What photos are usually called; others are known by their first bytes."""
DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "HEIF", "AVIF", "JPEG2000")
FORMATS = (*DECODERS, "MPO")  # what the JPEG decoder calls a photo with a preview or a depth map behind it
ONE_OF_SEVERAL = ("MPO", "HEIF")
"""Formats whose first picture is the photo, whatever else they hold."""
MODES = ("RGB", "L", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "1")
MAX_PIXELS = 64_000_000
MAX_PIXELS_OF = {"WEBP": 16_000_000, "JPEG2000": 16_000_000, "AVIF": 32_000_000, "HEIF": 50_000_000}
"""Their decoders take 7 to 20 bytes of memory per pixel, those of the others 6 at most."""
LARGE = 12_000_000
"""Pixels from which on photos that can't be shrunk while they are decoded are decoded one at a time."""
_large = threading.Lock()
BLOCK = 64 << 20
"""Bytes that Pillow allocates at a time for the pixels of a large picture."""
MAX_BYTES = 100_000_000
STORED_SIDE = 512
LOOK = 32
THUMBNAIL = 8


@dataclass(frozen=True)
class Facts:
    """What a photo's pixels say; `None` where it could not be read that far."""

    problem: str | None
    """Why the photo can't be used at all, in words for its owner."""
    format: str | None = None
    mode: str | None = None
    width: int | None = None
    """Pixels, as a viewer shows it (EXIF orientation applied); so is `height`."""
    height: int | None = None
    brightness: float | None = None
    """Mean grey level, from 0 to 255."""
    contrast: float | None = None
    """Standard deviation of the grey levels."""
    sharpness: float | None = None
    """Mean absolute difference of neighbouring grey levels at 64x64 pixels."""
    look: bytes | None = None
    """32x32 grey levels, 1,024 bytes, row by row; the photo is stretched to the square."""
    thumbnail: bytes | None = None
    """8x8 RGB, 192 bytes, row by row."""
    drawn: bool = False
    """Whether it is a drawing of `ml.data.sample`."""
    taken: float | None = None
    """When the camera took it, in seconds by its own clock."""
    camera: str | None = None
    """Its make, model and serial number (see `ml.data.exif`)."""


def inspect(data: bytes) -> tuple[Facts, np.ndarray | None]:
    """Decode a photo in full and describe it.

    Returns its facts and its pixels, uint8 [H, W, 3] RGB with the longest side at most 512, or `None` for the pixels
    where `facts.problem` says why there are none. Never raises for what a file may hold.
    """
    facts, image = decode(data)
    return (facts, None) if image is None else (describe(image, facts), np.asarray(image))


def decode(data: bytes) -> tuple[Facts, Image.Image | None]:
    """Decode a photo in full, as `inspect` does, but give none of the facts that its pixels say."""
    if problem := unfit_size(len(data)):
        return Facts(problem), None
    kind = kinds.picture_kind(data[: kinds.HEAD])
    if kind is None:
        return Facts(f"it is no photo but {kinds.other_kind(data[: kinds.HEAD])}"), None
    if kind == "JPEG" and (scans := jpeg.count_scans(data)) > jpeg.MAX_SCANS:
        return Facts(f"it is a JPEG of {scans} scans or more; at most {jpeg.MAX_SCANS} are read"), None
    try:
        # Pillow warns from 89 megapixels on and only refuses from 179; the cap here is lower than both.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(png.without_texts(data) if kind == "PNG" else data)
    except UnidentifiedImageError:
        return Facts(f"it is {_a(kind)} that is cut short or damaged"), None
    except Image.DecompressionBombError:
        return Facts(f"it has far more than {MAX_PIXELS / 1e6:.0f} megapixels"), None
    # A decoder may raise anything over a broken file. What it says may repeat bytes of the file: it isn't passed on.
    except Exception as error:
        short = "truncated" in str(error) or isinstance(error, EOFError)
        damage = "cut short" if short else f"cut short or damaged ({type(error).__name__})"
        return Facts(f"it is {_a(kind)} that is {damage}"), None


def _a(kind: str) -> str:
    return f"{'an' if kind == 'AVIF' else 'a'} {kind}"


def _decode(data: bytes) -> tuple[Facts, Image.Image | None]:
    _prepare_pillow()
    image: Image.Image = Image.open(io.BytesIO(data), formats=DECODERS)
    width, height = image.size
    facts = Facts(_unfit(image), image.format, image.mode, width, height)
    if facts.problem:
        return facts, None
    shrinks = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
    with _large if width * height > LARGE and not shrinks else nullcontext():
        tags = image.getexif()  # that of a PNG may stand behind the pixels, which are decoded for it
        if tags.get(ExifTags.Base.Orientation) in range(5, 9):
            width, height = height, width
        taken, camera = exif.taken(image)
        image.draft("RGB", (2 * STORED_SIDE, 2 * STORED_SIDE))
        image = _loaded(image, data)
        profile = image.info.get("icc_profile")
        photo = _rgb(ImageOps.exif_transpose(_shrunk(image)), profile)
        image.close()  # its memory is free before the next one's is taken
    drawn = tags.get(ExifTags.Base.Software) == SIGNATURE
    return replace(facts, width=width, height=height, drawn=drawn, taken=taken, camera=camera), photo


@cache
def _prepare_pillow() -> None:
    import pi_heif  # type: ignore[import-untyped]

    pi_heif.register_heif_opener()
    # glibc gives blocks above 32 MB back when they are freed; each thread would keep smaller ones for its next photo.
    Image.core.set_block_size(BLOCK)


def _loaded(image: Image.Image, data: bytes) -> Image.Image:
    """Return the picture with its pixels read; also that of a JPEG which is whole but for its end marker."""
    try:
        image.load()
        return image
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        whole, other = (Image.open(io.BytesIO(data.rstrip(b"\xff") + end), formats=("JPEG",)) for end in jpeg.ENDS)
        for each in (whole, other):
            each.draft("RGB", (2 * STORED_SIDE, 2 * STORED_SIDE))
        if whole.tobytes() != other.tobytes():  # pixels were lacking: they depend on what follows
            raise
        return whole


def unfit_size(size: int) -> str | None:
    """Return why a file of `size` bytes can't be a photo, or `None` if it may be one."""
    if size == 0:
        return "the file is empty (0 bytes)"
    if size > MAX_BYTES:
        return f"the file has {size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} are read"
    return None


def resize(photo: np.ndarray, height: int, width: int, padding: tuple[int, int, int] | None = None) -> np.ndarray:
    """Return uint8 [H, W, 3] as uint8 [height, width, 3] (bicubic, antialiased).

    With a `padding` colour the photo keeps its shape and is centred on it; without, it is stretched.
    """
    return fit(Image.fromarray(photo), height, width, padding)


def fit(image: Image.Image, height: int, width: int, padding: tuple[int, int, int] | None = None) -> np.ndarray:
    """Return an RGB picture as `resize` does."""
    if padding is None:
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return np.asarray(ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color=padding))


def _unfit(image: Image.Image) -> str | None:
    width, height = image.size
    most = MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
    if width * height > most:
        of = f" of {image.format}" if most < MAX_PIXELS else ""
        return f"it has {math.ceil(width * height / 1e6)} megapixels; at most {most / 1e6:.0f}{of} are read"
    if image.format == "TIFF" and _is_raw(image):
        return f"it is {kinds.RAW}"
    # Not counted: Pillow goes through all pages of a TIFF for it, again and again.
    if getattr(image, "is_animated", False) and image.format not in ONE_OF_SEVERAL:
        return "it is animated or has several pages; save one of them as a photo"
    if image.mode not in MODES:
        return f"its pixels are of mode {image.mode} (16-bit or floating point); save it with 8 bits a channel"
    return None


def _is_raw(image: Image.Image) -> bool:
    """Return whether a TIFF is a raw file, whose first picture is a small preview; a photo's first is the photo."""
    tags = image.getexif()
    return ExifTags.Base.DNGVersion in tags or bool(tags.get(ExifTags.Base.NewSubfileType, 0) & 1)


def _shrunk(image: Image.Image) -> Image.Image:
    """Shrink a large picture by a whole number, a strip at a time, so that no copy of all its pixels is made."""
    factor = min(image.size) // (2 * STORED_SIDE)
    if image.width * image.height <= LARGE or factor < 2:
        return image
    exif, height = image.getexif(), 64 * factor
    palette = {"P": "RGBA", "PA": "RGBA", "1": "L"}
    small: Image.Image | None = None
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        strip = strip.convert(
            "RGBA" if image.has_transparency_data and strip.mode == "RGB" else palette.get(strip.mode)
        )
        strip = strip.reduce(factor)
        small = small or Image.new(strip.mode, (strip.width, -(-image.height // factor)))
        small.paste(strip, (0, top // factor))
    assert small
    small.info["exif"] = exif.tobytes()
    return small


def _rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB, transparency over white, longest side at most `STORED_SIDE`."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    to_srgb = _to_srgb(profile, image.mode) if profile else None
    if to_srgb is None:
        image = image.convert("RGB")
    image.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.BICUBIC)
    return to_srgb.apply(image) if to_srgb else image


def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what converts pixels of a colour profile to sRGB; nothing if they are, or if the profile is broken."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(given).lower():
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        return ImageCms.ImageCmsTransform(given, srgb, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def fingerprint(image: Image.Image, facts: Facts) -> Facts:
    """Return the facts of a picture, as `decode` gave them, with what tells whether it is like another."""
    return replace(
        facts,
        look=image.convert("L").resize((LOOK, LOOK), Image.Resampling.BICUBIC).tobytes(),
        thumbnail=image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes(),
    )


def describe(image: Image.Image, facts: Facts) -> Facts:
    """Return the facts of a picture, as `decode` gave them, with what its pixels say."""
    grey = image.convert("L")
    levels = np.asarray(grey, np.float32)
    small = np.asarray(grey.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    return replace(
        fingerprint(image, facts),
        brightness=float(levels.mean()),
        contrast=float(levels.std()),
        sharpness=float((np.abs(np.diff(small, axis=0)).mean() + np.abs(np.diff(small, axis=1)).mean()) / 2),
    )
