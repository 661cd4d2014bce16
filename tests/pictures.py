"""Pictures that more than one test needs."""

import base64
import struct
import zlib


def black_png(width: int, height: int, transparent: bool = False) -> bytes:
    """Return a black PNG of 1 bit a pixel, or of 32 if it is transparent, which compresses a thousandfold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    depth, colour, row = (8, 6, 4 * width) if transparent else (1, 0, (width + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(bytes(height * (1 + row)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAABegABAAAAAAAAAMsAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlw"
    "cnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AA"
    "AAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAA"
    "AABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAANNtZGF0AAAAxygBrwngITl1X//70p///DfvIfuzFUkE"
    "pPPeyBP707//L9ldRR7tZRggi9MouodaTeNrWwn0ss1/aBoJb+BCgRlwBdKWEBBDAJbMzb2wNXaSv5m0K2mlMflvTbzl//z2RAfyykd/8ekH"
    "+O90DmgfY1kPuf1y9XoQYnxSEzeBhlldwtwq9F/iP/DnppNGIAq8rsaUR9azTf8jQtXYZrsv+mlG3vus4R8KEaXzj6u9BXMtyQYCgoDnXQQg"
    "BZI/houwAY0Z3L/vM5k="
)
"""A HEIC picture of 96x64 pixels: red and green above blue and yellow. No library here writes the format."""
QUARTERS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (230, 220, 60))
