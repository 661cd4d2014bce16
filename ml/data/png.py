"""PNG files without the texts that may stand in them (W3C PNG, section 11.3): no pixel depends on those."""

import struct
import zlib

SIGNATURE = 8
TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
MAX_TEXT = 64 << 10
"""Bytes up to which a text stays if it isn't compressed: it may say how the photo is turned."""
MAX_PROFILE = 1 << 20


def without_texts(data: bytes) -> bytes:
    """Return the file without compressed or long texts, which may be bombs, and without colour profiles that are."""
    if not any(name in data for name in (*TEXTS, b"iCCP")):
        return data
    kept, place = [data[:SIGNATURE]], SIGNATURE
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, end = data[place + 4 : place + 8], place + 12 + length
        if not _drops(name, data[place + 8 : end - 4]):
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


def _drops(name: bytes, body: bytes) -> bool:
    if name == b"iCCP":
        return len(body) > MAX_PROFILE or _inflates_beyond(body, MAX_PROFILE)
    if name not in TEXTS:
        return False
    return name == b"zTXt" or len(body) > MAX_TEXT or (name == b"iTXt" and body.partition(b"\0")[2][:1] == b"\1")


def _inflates_beyond(body: bytes, most: int) -> bool:
    inflating = zlib.decompressobj()
    try:
        inflating.decompress(body.partition(b"\0")[2][1:], most)
    except zlib.error:
        return True
    return not inflating.eof
