import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.images.decode import open_source
from pipeline.images.image_error import ImageError

MAX_PIXELS = 1_000_000
KINDS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {}),
    ("GIF", {}),
    ("BMP", {}),
]


def smooth(width=48, height=32):
    """uint8 [height, width, 3]: three gradients, another one for each channel."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def saved(image, kind, **options):
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(data, eighths=8):
    return open_source(data, MAX_PIXELS).decode(eighths).pixels


def reason(data, max_pixels=MAX_PIXELS):
    with pytest.raises(ImageError) as raised:
        open_source(data, max_pixels).decode(8)
    return raised.value.reason


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).max()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_turned_jpeg_comes_out_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(), "JPEG", quality=100, subsampling=0, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    source = open_source(data, MAX_PIXELS)
    assert (source.width, source.height) == upright.shape[1::-1]
    assert difference(decoded(data), upright) <= 2


@pytest.mark.parametrize("eighths", [1, 2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_pixel_is_a_whole_number_of_source_pixels_from_the_origin(orientation, eighths):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(93, 77), "JPEG", quality=100, subsampling=0, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(float)
    scaled = open_source(data, MAX_PIXELS).decode(eighths)
    # A gradient's mean over a pixel is its value at the pixel's centre. A shift by the part of a
    # pixel that reaches over the source's edge would show as 5 levels or more.
    for axis in (0, 1):
        values = scaled.pixels[2:-2, 2:-2].mean(axis=1 - axis)
        centres = (np.arange(len(values)) + 2.5 - scaled.origin[1 - axis]) * 8 / eighths - 0.5
        profile = upright.mean(axis=1 - axis)
        channel = int(np.ptp(profile, axis=0).argmax())  # the one that changes along this axis
        expected = np.interp(centres, np.arange(len(profile)), profile[:, channel])
        np.testing.assert_allclose(values[:, channel], expected, atol=2)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (7, 7), (8, 1), (300, 2)])
def test_a_jpeg_smaller_than_a_block_is_decoded_at_full_scale(width, height):
    data = saved(smooth(width, height), "JPEG", quality=100, subsampling=0)
    assert difference(decoded(data), np.asarray(Image.open(io.BytesIO(data)))) <= 1


def test_gray_stays_gray():
    assert decoded(saved(smooth()[..., 0], "JPEG")).shape == (32, 48)
    assert decoded(saved(smooth()[..., 0], "PNG")).shape == (32, 48)


def test_a_cmyk_jpeg_comes_out_in_its_colours():
    data = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=100)
    assert difference(decoded(data), smooth()) <= 8


def test_a_palette_png_comes_out_in_its_colours():
    image = Image.fromarray(smooth()).quantize(64)
    np.testing.assert_array_equal(decoded(saved(image, "PNG")), np.asarray(image.convert("RGB")))


def test_a_16_bit_png_keeps_its_upper_byte():
    values = (np.arange(64, dtype=np.uint16) * 1023).reshape(8, 8)
    np.testing.assert_array_equal(decoded(saved(values, "PNG")), values // 256)


def test_what_is_transparent_is_black():
    rgba = np.dstack([smooth(), np.full((32, 48), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    pixels = decoded(saved(rgba, "PNG"))
    assert not pixels[:10].any()
    np.testing.assert_array_equal(pixels[10:], smooth()[10:])


def test_a_turned_png_comes_out_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decoded(saved(smooth(), "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, np.rot90(smooth(), -1))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "PNG"])
def test_lossless_formats_come_out_exactly(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decoded(saved(smooth(), kind, **options)), smooth())


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("eighths", [1, 8])
def test_a_jpeg_cut_anywhere_in_its_scan_is_truncated(progressive, eighths):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(noise, "JPEG", progressive=progressive)
    scan = data.index(b"\xff\xda") + 14
    for length in [*range(scan, len(data), 97), len(data) - 2, len(data) - 1]:
        with pytest.raises(ImageError) as raised:
            open_source(data[:length], MAX_PIXELS).decode(eighths)
        assert raised.value.reason == "truncated", f"cut at {length} of {len(data)}"


def test_a_jpeg_with_a_flipped_marker_in_its_scan_is_damaged():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = bytearray(saved(noise, "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 2] = b"\xff\xd3"
    assert reason(bytes(data)) == "damaged"


def test_filling_before_the_end_marker_harms_nothing():
    data = saved(smooth(), "JPEG")
    filled = data[:-2] + bytes(40) + data[-2:]
    np.testing.assert_array_equal(decoded(filled), decoded(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (saved(smooth(), "JPEG")[:100], "truncated"),
        (saved(smooth(), "PNG")[:-60], "truncated"),
        (saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG")[:-300], "truncated"),
        (saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "unsupported"),
    ],
    ids=["empty", "html", "postscript", "jpeg header", "png", "cmyk", "float tiff"],
)
def test_what_is_no_whole_image_has_a_reason(data, expected):
    assert reason(data) == expected


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged TIFFs
@given(st.data())
def test_damaged_bytes_give_an_image_or_an_image_error(data):
    kind, options = data.draw(st.sampled_from(KINDS))
    source = bytearray(saved(smooth(), kind, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = open_source(bytes(source), MAX_PIXELS).decode(8).pixels
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] in ((), (3,))


def test_a_jpeg_of_12_bits_is_unsupported():
    data = bytearray(saved(smooth(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    assert reason(bytes(data)) == "unsupported"


def test_a_jpeg_header_that_claims_too_much_is_refused_unread():
    data = bytearray(saved(smooth(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    assert reason(bytes(data), max_pixels=100_000_000) == "too_large"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [12_000, 60_000], ids=["over ours", "over Pillow's"])
def test_a_png_header_that_claims_too_much_is_refused_unread(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert reason(data, max_pixels=100_000_000) == "too_large"


def test_exactly_max_pixels_is_allowed():
    data = saved(smooth(), "JPEG")
    assert open_source(data, 48 * 32).width == 48
    assert reason(data, 48 * 32 - 1) == "too_large"
