"""What a file is, by its first bytes: whatever its name says."""

import codecs
import re
from typing import Final

HEAD: Final = 64
"""How many bytes are enough to tell."""
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
PICTURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"BM", "BMP"),
)
RAW = "a camera's raw file: export it as JPEG"
RAW_TIFF = b"II*\0\x10\0\0\0CR"
"""Raw files of Canon; others that look like a TIFF are told by their tags, see `ml.data.photos`."""
OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer: run `git annex get`"),
    (b"%PDF", "a PDF"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\x01\xba", "a video (MPEG)"),
    (b"FLV", "a video (Flash)"),
    (b"\xff\x0a", "a JPEG XL picture: save it as JPEG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture: save it as JPEG"),
    (b"8BPS", "a Photoshop document: save it as JPEG"),
    (RAW_TIFF, RAW),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"IIU\0", RAW),
    (b"II\x1a\0\0\0HEAP", RAW),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\0\x05\x16\x07", "what macOS keeps beside a file"),
    (b"\xd0\xcf\x11\xe0", "an Office document or a thumbnail database"),
)
HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)", re.IGNORECASE | re.DOTALL)


def picture_kind(head: bytes) -> str | None:
    """Return which picture format a file's first `HEAD` bytes belong to, such as JPEG or HEIC, or `None`."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, len(head) - 3, 4))}
        if head[8:12] in AVIF_BRANDS or (head[8:12] in HEIF_BRANDS and brands & AVIF_BRANDS):
            return "AVIF"
        return "HEIC" if head[8:12] in HEIF_BRANDS else None
    if head.startswith(RAW_TIFF):
        return None
    return next((kind for start, kind in PICTURES if head.startswith(start)), None)


def other_kind(head: bytes) -> str:
    """Return in words what a file is that isn't a picture, by its first `HEAD` bytes, which are never repeated."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return RAW if head[8:11] == b"crx" else "a video (MP4 or QuickTime)"
    if head[:4] == b"RIFF":
        return "a video (AVI)" if head[8:11] == b"AVI" else "a sound (RIFF)"
    if found := next((kind for start, kind in OTHERS if head.startswith(start)), None):
        return found
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if HTML.match(text):
        return "an HTML page: the download brought an answer in words"
    if text[:4].lower() == b"<svg":
        return "an SVG drawing"
    if text.startswith(b"<"):
        return "an XML file"
    if not head.strip(b"\0"):
        return "a file of zeros: its copy or its memory card failed"
    return "a text file" if _is_text(text) else "a file of an unknown kind"


def _is_text(head: bytes) -> bool:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()  # the last letter may be cut
    try:
        return all(letter >= " " or letter in "\t\r\n" for letter in decoder.decode(head))
    except UnicodeDecodeError:
        return False
