"""One photo: from its bytes to pixels and to the facts that the manifest keeps."""

import io
import warnings
from dataclasses import dataclass, replace

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ml.data.signature import SIGNATURE

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
FORMATS = (*DECODERS, "MPO")  # what the JPEG decoder calls a photo with a preview or a depth map behind it
MODES = ("RGB", "L", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "1")
MAX_PIXELS = 64_000_000
MAX_BYTES = 100_000_000
STORED_SIDE = 512
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
    dhash: int | None = None
    """64-bit difference hash (Krawetz 2013): one bit a pair of neighbours on a 9x8 grey grid."""
    thumbnail: bytes | None = None
    """8x8 RGB, 192 bytes, row by row."""
    drawn: bool = False
    """Whether it is a drawing of `ml.data.sample`."""


def inspect(data: bytes) -> tuple[Facts, np.ndarray | None]:
    """Decode a photo in full and describe it.

    Returns its facts and its pixels, uint8 [H, W, 3] RGB with the longest side at most 512, or `None` for the pixels
    where `facts.problem` says why there are none. Never raises for what a file may hold.
    """
    facts, image = decode(data)
    return (facts, None) if image is None else (describe(image, facts), np.asarray(image))


def decode(data: bytes) -> tuple[Facts, Image.Image | None]:
    """Decode a photo in full, as `inspect` does, but of its facts give no more than those up to `height`."""
    if problem := unfit_size(len(data)):
        return Facts(problem), None
    try:
        # Pillow warns from 89 megapixels on and only refuses from 179; the cap here is lower than both.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=DECODERS)
            width, height = image.size
            facts = Facts(_unfit(image), image.format, image.mode, width, height)
            if facts.problem:
                return facts, None
            exif = image.getexif()
            drawn = exif.get(ExifTags.Base.Software) == SIGNATURE
            if exif.get(ExifTags.Base.Orientation) in range(5, 9):
                width, height = height, width
            image.draft("RGB", (2 * STORED_SIDE, 2 * STORED_SIDE))
            image.load()
            return replace(facts, width=width, height=height, drawn=drawn), _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        return Facts(f"it is no picture: it begins with {data[:16]!r}"), None
    except Image.DecompressionBombError:
        return Facts(f"it has far more than {MAX_PIXELS / 1e6:.0f} megapixels"), None
    except Exception as error:  # a decoder may raise anything over a broken file, and any of it means: not a photo
        return Facts(f"it does not decode: {error or type(error).__name__}"), None


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
    if width * height > MAX_PIXELS:
        return f"it has {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are read"
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        return f"it is animated or has several pages ({frames} frames); save one of them as a photo"
    if image.mode not in MODES:
        return f"its pixels are of mode {image.mode} (16-bit or floating point); save it with 8 bits a channel"
    return None


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparency over white, longest side at most `STORED_SIDE`."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.BICUBIC)
    return image


def fingerprint(image: Image.Image, facts: Facts) -> Facts:
    """Return the facts of a picture, as `decode` gave them, with what tells whether it is like another."""
    grid = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BICUBIC), np.int16)
    return replace(
        facts,
        dhash=int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big"),
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
