import io
import pickle

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.image_error import ImageError
from pipeline.images.jpeg import encode_jpeg, read_header, strip_metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
SECRET = b"Jane Doe, born 1953"


def pillow_jpeg(image=PIXELS, **options):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", **options)
    return out.getvalue()


def with_secrets(orientation=1, **options):
    """A JPEG with the secret in its EXIF, in a comment and behind its end."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, SECRET.decode()
    return pillow_jpeg(exif=exif, comment=SECRET, icc_profile=SECRET, **options) + SECRET


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_header_tells_size_components_and_frame(progressive):
    header = read_header(pillow_jpeg(progressive=progressive))
    assert (header.width, header.height, header.components, header.bits) == (40, 24, 3, 8)
    assert header.frame == (0xC2 if progressive else 0xC0)
    assert header.is_plain
    assert header.orientation == 1


def test_gray_has_one_component():
    assert read_header(pillow_jpeg(PIXELS[..., 0])).components == 1


def test_cmyk_is_not_plain():
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(out, "JPEG")
    header = read_header(out.getvalue())
    assert header.components == 4
    assert not header.is_plain


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_read(orientation):
    header = read_header(with_secrets(orientation))
    assert header.orientation == orientation
    assert header.upright_size == ((40, 24) if orientation < 5 else (24, 40))


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_exif_orientation_is_read_in_both_byte_orders(order):
    fields = [(42, 2), (8, 4), (1, 2), (0x0112, 2), (3, 2), (1, 4), (6, 2), (0, 2), (0, 4)]
    tiff = b"".join(value.to_bytes(size, order) for value, size in fields)
    exif = b"Exif\0\0" + {"little": b"II", "big": b"MM"}[order] + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    plain = pillow_jpeg()
    assert read_header(plain[:2] + segment + plain[2:]).orientation == 6


@given(st.binary(max_size=60))
def test_senseless_exif_means_upright(junk):
    exif = b"Exif\0\0II" + junk
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    plain = pillow_jpeg()
    assert 1 <= read_header(plain[:2] + segment + plain[2:]).orientation <= 8


@given(st.binary(max_size=200))
def test_whatever_follows_a_start_marker_is_an_image_error_at_worst(junk):
    with pytest.raises(ImageError):
        read_header(b"\xff\xd8\xff" + junk)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"<html>", "not_an_image"), (b"\xff\xd8\xff\xd9", "damaged")],
)
def test_a_header_that_is_none_has_a_reason(data, reason):
    with pytest.raises(ImageError) as raised:
        read_header(data)
    assert raised.value.reason == reason


def test_every_cut_before_the_first_scan_is_truncated():
    data = pillow_jpeg()
    for length in range(3, data.index(b"\xff\xda")):
        with pytest.raises(ImageError, match="truncated"):
            read_header(data[:length])


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("restart", [0, 1], ids=["no restarts", "restarts"])
def test_stripping_drops_all_secrets_and_no_pixel(progressive, restart):
    data = with_secrets(progressive=progressive, restart_marker_rows=restart)
    assert data.count(SECRET) == 4  # EXIF, ICC, comment, behind the end
    stripped = strip_metadata(data)
    assert SECRET not in stripped
    assert b"Exif" not in stripped
    first_scan = data.index(b"\xff\xda")
    scans = data[first_scan : -len(SECRET)]
    assert stripped.endswith(scans)
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(stripped), simplejpeg.decode_jpeg(data), strict=True
    )


def test_stripping_drops_segments_of_unknown_kinds():
    data = pillow_jpeg()
    unknown = b"\xff\xf0" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET
    assert strip_metadata(data[:2] + unknown + data[2:]) == strip_metadata(data)


def test_stripping_again_changes_nothing():
    once = strip_metadata(with_secrets())
    assert strip_metadata(once) == once


def test_stripping_keeps_what_decides_the_colours():
    rgb = pillow_jpeg(keep_rgb=True)  # stored as RGB, which Adobe's segment alone tells
    assert b"Adobe" in rgb
    stripped = strip_metadata(rgb)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(stripped))), np.asarray(Image.open(io.BytesIO(rgb)))
    )


def test_a_scan_without_an_end_cannot_be_stripped():
    data = pillow_jpeg()
    with pytest.raises(ImageError, match="truncated"):
        strip_metadata(data[:-2])


def test_encoding_twice_gives_the_same_bytes():
    assert encode_jpeg(PIXELS, 90) == encode_jpeg(PIXELS.copy(), 90)


def test_gray_is_encoded_as_one_component():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    coded = encode_jpeg(gray, 100)
    assert read_header(coded).components == 1
    decoded = simplejpeg.decode_jpeg(coded, "GRAY")[..., 0]
    assert np.abs(decoded.astype(int) - gray).max() <= 2


def test_an_image_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("truncated", "ends at byte 7")))
    assert (error.reason, str(error)) == ("truncated", "truncated: ends at byte 7")
