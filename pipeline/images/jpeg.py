"""JPEG as segments: read the header, drop metadata; and encode. Called by `decode` and `render`.

Decoders tell little about a file before they decode it, and nothing of EXIF. This reads what is
needed from the segments themselves, touching no pixel. Segments: ITU-T T.81, Annex B,
https://www.w3.org/Graphics/JPEG/itu-t81.pdf; EXIF: CIPA DC-008, section 4.6.
"""

import dataclasses
import re
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import simplejpeg

from pipeline.images.image_error import ImageError

EOI, SOS, APP0, APP1, APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
DHT, DAC, DQT, DNL, DRI = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
HUFFMAN_8_BIT = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and the restart markers stand alone
NEEDED = START_OF_FRAME | {SOS, DHT, DAC, DQT, DNL, DRI}  # to decode; all else is metadata
MAX_SIDE_PX = 65_500  # libjpeg's limit

# Within a scan 0xFF is data when 0x00 follows, and 0xD0–0xD7 are restarts: anything else ends it.
SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
# Version 1.1, no unit, square pixels, no thumbnail.
PLAIN_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """What a JPEG says of itself before its first scan; width and height as stored, unturned."""

    width: int
    height: int
    components: int  # 1 gray, 3 colour, 4 CMYK or YCCK
    bits: int  # a sample
    frame: int  # the start-of-frame marker, 0xC0 for baseline
    orientation: int  # EXIF 1–8; 1 is upright, 5–8 swap width and height

    @property
    def is_plain(self) -> bool:
        """Gray or colour of 8 bits, Huffman coded: what every decoder reads, TensorFlow's too."""
        return self.components in (1, 3) and self.bits == 8 and self.frame in HUFFMAN_8_BIT

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels once the image is turned upright."""
        size = (self.width, self.height)
        return size[::-1] if self.orientation >= 5 else size


def is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def read_header(data: bytes) -> JpegHeader:
    """JPEG bytes → its header, from the segments before the first scan; or `ImageError`."""
    if not data:
        raise ImageError("empty", "no bytes")
    if not is_jpeg(data):
        raise ImageError("not_an_image", "no JPEG start marker")
    frame: tuple[int, int, int, int, int] | None = None
    orientation = 1
    for marker, start, end in _segments(data):
        body = start + 4
        if marker in START_OF_FRAME:
            if end - body < 6:
                raise ImageError("damaged", "the JPEG's frame header is too short")
            frame = (marker, *struct.unpack_from(">BHHB", data, body))
        elif marker == APP1 and orientation == 1:
            orientation = _orientation(data[body:end])
        elif marker == SOS and frame:
            kind, bits, height, width, components = frame
            if not width or not height:
                raise ImageError("unsupported", f"the JPEG's header says {width}×{height} pixels")
            return JpegHeader(
                width=width,
                height=height,
                components=components,
                bits=bits,
                frame=kind,
                orientation=orientation,
            )
    raise ImageError("damaged", "the JPEG has no frame and scan")


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG's bytes end before its end marker. Walks all of its scans."""
    try:
        for _ in _segments(data):
            pass
    except ImageError as error:
        return error.reason == "truncated"
    return False


def strip_metadata(data: bytes) -> bytes:
    """JPEG bytes → the same image without metadata; tables and scans are kept bit for bit.

    EXIF, XMP, ICC profiles, thumbnails, comments, segments of unknown kinds and whatever follows
    the image go: they may hold patient data. Of what tells the colour space, JFIF is replaced by a
    plain one and Adobe's segment is kept, cut to its fixed fields, so that every decoder sees the
    same colours. An EXIF orientation goes too: turn such an image instead.
    """
    kept = [b"\xff\xd8"]
    for marker, start, end in _segments(data):
        if marker == APP0 and data.startswith(b"JFIF\0", start + 4):
            if PLAIN_JFIF not in kept:
                kept.append(PLAIN_JFIF)
        elif marker == APP14 and data.startswith(b"Adobe", start + 4) and end - start >= 16:
            kept.append(b"\xff\xee\x00\x0e" + data[start + 4 : start + 16])
        elif marker in NEEDED:
            kept.append(data[start:end])
    kept.append(b"\xff\xd9")
    return b"".join(kept)


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int) -> bytes:
    """uint8 [H, W, 3] RGB or [H, W] gray, quality 1–100 → JPEG bytes, the same on every call.

    Colour is subsampled 4:2:0, as it is in most sources: at quality 95 and 256 px that takes a
    quarter fewer bytes, and a quarter less time to decode in every epoch, than 4:4:4, and costs
    1.6 dB (benchmarks/render_quality.py).
    """
    if image.ndim == 2:
        return bytes(simplejpeg.encode_jpeg(image[..., np.newaxis], quality, "GRAY", "Gray"))
    return bytes(simplejpeg.encode_jpeg(image, quality, "RGB", "420"))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment between the start of image and its end, in order.

    `start` is at the segment's 0xFF. A scan comes as two: its header, then its entropy-coded data,
    so that who wants the header alone never walks the data. Fill bytes are passed over.
    """
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at : at + 1] not in (b"\xff", b""):
            raise ImageError("damaged", f"byte {at} of the JPEG must begin a segment")
        marker = data[at + 1] if at + 1 < len(data) else None
        if marker == EOI:
            return
        end = at + 2
        if marker not in NO_LENGTH:
            end += max(2, int.from_bytes(data[at + 2 : at + 4], "big"))  # counts its own two bytes
        if marker is None or end > len(data):
            raise ImageError("truncated", f"the JPEG ends at byte {len(data)}, inside a segment")
        yield marker, at, end
        at = end
        if marker == SOS:
            scan_end = SCAN_END.search(data, at)
            if scan_end is None:
                raise ImageError("truncated", f"the JPEG ends at byte {len(data)}, inside a scan")
            yield marker, at, scan_end.start()
            at = scan_end.start()


def _orientation(exif: bytes) -> int:
    """The body of an APP1 segment → its EXIF orientation, 1 where there is none that makes sense.

    It is in the first directory: tag 0x0112, one unsigned short.
    """
    if not exif.startswith(b"Exif\0\0"):
        return 1
    tiff = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if (kind, count) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:  # the directory points outside the segment
        return 1
    return 1
