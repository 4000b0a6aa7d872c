import io
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.pixels import apply_windowing, pixel_array

from dicom_factory import SECRET, dicom
from pipeline.images.decode import open_source
from pipeline.images.dicom import TAGS
from pipeline.images.image_error import ImageError
from pipeline.images.jpeg import read_header
from pipeline.images.render import RenderSpec, render

MAX_PIXELS = 1_000_000
DEPTHS = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def smooth(width=48, height=32):
    """uint8 [height, width, 3]: three gradients."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def saved(image, kind, **options):
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def decoded(data):
    return open_source(data, MAX_PIXELS).decode(8).pixels


def reason(data, max_pixels=MAX_PIXELS):
    with pytest.raises(ImageError) as raised:
        open_source(data, max_pixels).decode(8)
    return raised.value.reason


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).max()


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.5, 7)])
def test_gray_is_windowed_as_pydicom_does(function, slope, intercept):
    elements = {"WindowCenter": 40, "WindowWidth": 400, "BitsStored": 12}
    elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if function:
        elements["VOILUTFunction"] = function
    data = dicom(DEPTHS, **elements)
    # pydicom's result spans the modality's whole range.
    windowed = apply_windowing(DEPTHS * float(slope) + intercept, dcmread(io.BytesIO(data)))
    expected = (windowed - intercept) / (4095 * slope) * 255
    assert difference(decoded(data), np.rint(expected).astype(int)) <= 1


def test_the_first_of_several_windows_counts():
    several = dicom(DEPTHS, WindowCenter=[1000, 50], WindowWidth=[800, 10])
    first = dicom(DEPTHS, WindowCenter=1000, WindowWidth=800)
    np.testing.assert_array_equal(decoded(several), decoded(first))


def test_a_linear_window_reaches_from_black_to_white():
    # PS3.3, C.11.2.1.2.1, its example: center 2048, width 4096 maps 0 to black, 4095 to white.
    pixels = decoded(dicom(DEPTHS, WindowCenter=2048, WindowWidth=4096))
    assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
    assert difference(pixels, np.rint(DEPTHS / 4095 * 255).astype(int)) == 0


@pytest.mark.parametrize("width", [0, -5, ""])
def test_a_window_without_width_is_none(width):
    data = dicom(DEPTHS, WindowCenter=40, WindowWidth=width)
    np.testing.assert_array_equal(decoded(data), decoded(dicom(DEPTHS)))


def test_deep_gray_without_a_window_is_shown_from_its_least_to_its_largest_value():
    pixels = decoded(dicom(DEPTHS // 4 + 100))
    assert difference(pixels, np.rint((DEPTHS // 4) / 1023 * 255).astype(int)) == 0


def test_padding_does_not_count_for_the_range():
    values = DEPTHS.astype(np.int16)
    values[0] = -2000
    pixels = decoded(dicom(values, PixelPaddingValue=-2000))
    assert (pixels[0] == 0).all()
    assert pixels[1, 0] == 0
    assert pixels[-1, -1] == 255


def test_eight_bits_without_a_window_stay_as_they_are():
    gray = smooth()[..., 0] // 2
    np.testing.assert_array_equal(decoded(dicom(gray)), gray)


def test_monochrome1_is_inverted():
    gray = smooth()[..., 0]
    data = dicom(gray, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decoded(data), 255 - gray)


def test_a_falling_rescale_turns_black_to_white():
    gray = smooth()[..., 0]
    data = dicom(gray, RescaleSlope=-1, RescaleIntercept=255)
    np.testing.assert_array_equal(decoded(data), 255 - gray)


def table_of(entries, bits):
    table = Dataset()
    table.LUTDescriptor = [len(entries), 0, bits]
    table.LUTData = list(map(int, entries))
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return table


def test_tables_are_looked_up_modality_before_voi():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    halved, squared = np.arange(256) // 2, np.arange(256) ** 2 // 4
    modality, voi = table_of(halved, 8), table_of(squared, 14)
    data = dicom(gray, ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    expected = np.rint(squared[halved[gray]] / (2**14 - 1) * 255).astype(int)
    assert difference(decoded(data), expected) == 0


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_comes_out_in_its_colours(planar):
    stored = smooth() if planar == 0 else np.moveaxis(smooth(), 2, 0)
    data = dicom(stored, Rows=32, Columns=48, SamplesPerPixel=3, PlanarConfiguration=planar,
                 PhotometricInterpretation="RGB")  # fmt: skip
    np.testing.assert_array_equal(decoded(data), smooth())


def test_rgb_of_16_bits_keeps_its_upper_byte():
    np.testing.assert_array_equal(decoded(dicom(smooth().astype(np.uint16) * 257)), smooth())


def test_ybr_comes_out_in_its_colours():
    ybr = np.asarray(Image.fromarray(smooth()).convert("YCbCr"))
    assert difference(decoded(dicom(ybr, PhotometricInterpretation="YBR_FULL")), smooth()) <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_comes_out_in_its_colours(bits):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    colors = np.random.default_rng(0).integers(0, 256, (64, 3), np.uint8)
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [64, 0, bits]
        entries = colors[:, channel].astype(np.uint16 if bits == 16 else np.uint8)
        stored = (entries * 257 if bits == 16 else entries).tobytes()
        elements[f"{name}PaletteColorLookupTableData"] = stored
    np.testing.assert_array_equal(decoded(dicom(values, **elements)), colors[values])


def rle(pixels):
    """DICOM bytes, compressed by pydicom."""
    dataset = dcmread(io.BytesIO(dicom(pixels)))
    dataset.compress(uid.RLELossless, generate_instance_uid=False)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def jpeg_2000(pixels):
    frame = saved(pixels, "JPEG2000", irreversible=False, no_jp2=True)
    kind = {"PhotometricInterpretation": "YBR_RCT"} if pixels.ndim == 3 else {}
    return dicom(pixels, syntax=uid.JPEG2000Lossless, frames=[frame], **kind)


@pytest.mark.parametrize("compressed", [rle, jpeg_2000])
@pytest.mark.parametrize("pixels", [smooth(), smooth()[..., 0], DEPTHS], ids=["rgb", "8", "16"])
def test_lossless_compression_comes_out_exactly(compressed, pixels):
    np.testing.assert_array_equal(decoded(compressed(pixels)), decoded(dicom(pixels)))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian])
def test_every_plain_syntax_is_read(syntax):
    stored = DEPTHS.astype(">u2") if syntax == uid.ExplicitVRBigEndian else DEPTHS
    np.testing.assert_array_equal(decoded(dicom(stored, syntax=syntax)), decoded(dicom(DEPTHS)))


@pytest.mark.parametrize("kind", ["YBR_FULL_422", "RGB"])
def test_a_jpeg_inside_comes_out_in_its_colours(kind):
    frame = saved(smooth(), "JPEG", quality=98, subsampling=0, keep_rgb=kind == "RGB")
    data = dicom(smooth(), syntax=uid.JPEGBaseline8Bit, frames=[frame],
                 PhotometricInterpretation=kind)  # fmt: skip
    assert difference(decoded(data), smooth()) <= 4
    assert difference(decoded(data), pixel_array(dcmread(io.BytesIO(data)))) <= 2


def test_a_gray_jpeg_inside_is_windowed():
    gray = smooth()[..., 0]
    data = dicom(gray, syntax=uid.JPEGBaseline8Bit, frames=[saved(gray, "JPEG", quality=98)],
                 WindowCenter=64, WindowWidth=128)  # fmt: skip
    assert difference(decoded(data), np.clip(gray.astype(int) * 255 // 127, 0, 255)) <= 8


def test_a_colour_jpeg_inside_is_decoded_at_a_reduced_scale():
    frame = saved(smooth(800, 600), "JPEG", quality=95)
    data = dicom(smooth(800, 600), syntax=uid.JPEGBaseline8Bit, frames=[frame],
                 PhotometricInterpretation="YBR_FULL_422")  # fmt: skip
    assert open_source(data, MAX_PIXELS).is_plain_jpeg
    assert render(data, [64], RenderSpec()).images == render(frame, [64], RenderSpec()).images


def test_a_jpeg_inside_of_the_wanted_size_keeps_its_scan_and_is_never_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    frame = saved(smooth(64, 64), "JPEG", quality=60, exif=exif, comment=SECRET.encode())
    data = dicom(smooth(64, 64), syntax=uid.JPEGBaseline8Bit, frames=[frame],
                 PhotometricInterpretation="YBR_FULL_422")  # fmt: skip
    image = render(data, [64], RenderSpec()).images[64]
    assert image.endswith(frame[frame.index(b"\xff\xda") :])
    assert SECRET.encode() not in image


def test_gray_renders_to_one_component():
    image = render(dicom(DEPTHS), [32], RenderSpec()).images[32]
    assert read_header(image).components == 1
    assert simplejpeg.decode_jpeg(image, "GRAY")[-1, -1, 0] > 240


def test_nothing_of_the_patient_is_read():
    for name in TAGS:
        assert not name.startswith(("Patient", "Study", "Series", "Institution", "Referring"))
    with pytest.raises(ImageError) as raised:
        open_source(dicom(DEPTHS, PhotometricInterpretation="HSV"), MAX_PIXELS)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.MPEG2MPML, uid.HTJ2KLossless]
)
def test_a_syntax_that_nothing_decodes_is_named(syntax):
    data = dicom(DEPTHS, syntax=syntax, frames=[b"\xff\xd8\xff\xd9"])
    with pytest.raises(ImageError, match=f"unsupported: .*{syntax}"):
        open_source(data, MAX_PIXELS)


def test_a_jpeg_of_12_bits_is_unsupported():
    data = dicom(DEPTHS, syntax=uid.JPEGExtended12Bit, frames=[b"\xff\xd8"], BitsStored=12)
    assert reason(data) == "unsupported"


def test_a_deflated_file_is_unsupported_for_what_it_inflates_to_is_not_known():
    assert reason(dicom(DEPTHS, syntax=uid.DeflatedExplicitVRLittleEndian)) == "unsupported"


def test_several_frames_are_unsupported():
    with pytest.raises(ImageError, match="unsupported: a DICOM file of 64 frames"):
        open_source(dicom(DEPTHS, Rows=1, NumberOfFrames=64), MAX_PIXELS)


@pytest.mark.parametrize(
    "elements", [{"Rows": 60_000, "Columns": 60_000}, {"NumberOfFrames": 1_000_000}]
)
def test_a_header_that_claims_too_much_is_refused_undecoded(elements):
    assert reason(dicom(DEPTHS, **elements)) == "too_large"


@pytest.mark.parametrize("kind", ["MONOCHROME2", "YBR_FULL_422"])
def test_a_frame_that_is_larger_than_its_file_says_is_refused_undecoded(kind):
    pixels = smooth(2000, 1000) if kind == "YBR_FULL_422" else smooth(2000, 1000)[..., 0]
    data = dicom(pixels, syntax=uid.JPEGBaseline8Bit, frames=[saved(pixels, "JPEG")],
                 PhotometricInterpretation=kind, Rows=10, Columns=10)  # fmt: skip
    assert reason(data) == "too_large"


def test_a_file_without_pixels_is_not_an_image():
    dataset = dcmread(io.BytesIO(dicom(DEPTHS)))
    del dataset.PixelData
    out = io.BytesIO()
    dataset.save_as(out)
    assert reason(out.getvalue()) == "not_an_image"


@pytest.mark.filterwarnings("ignore:End of file reached")
@pytest.mark.parametrize("make", [dicom, rle, jpeg_2000])
def test_a_file_that_ends_in_its_pixels_is_truncated(make):
    data = make(DEPTHS)
    for length in (data.index(b"\xe0\x7f\x10\x00") + 20, len(data) - 40):
        assert reason(data[:length]) == "truncated", f"cut at {length} of {len(data)}"


@pytest.mark.parametrize("kind", ["MONOCHROME2", "YBR_FULL_422"])
def test_a_frame_that_ends_early_in_a_whole_file_is_truncated(kind):
    pixels = smooth() if kind == "YBR_FULL_422" else smooth()[..., 0]
    frame = saved(pixels, "JPEG")
    data = dicom(pixels, syntax=uid.JPEGBaseline8Bit, frames=[frame[:-20]],
                 PhotometricInterpretation=kind)  # fmt: skip
    assert reason(data) == "truncated"


@pytest.mark.filterwarnings("ignore")  # pydicom's and Pillow's, about damaged files
@given(st.data())
def test_damaged_bytes_give_an_image_or_an_image_error(data):
    make = data.draw(st.sampled_from([dicom, rle, jpeg_2000]))
    source = bytearray(make(DEPTHS[:16, :16]))
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(132, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = open_source(bytes(source), MAX_PIXELS).decode(8).pixels
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] in ((), (3,))


def test_who_reads_no_dicom_does_not_import_pydicom():
    code = "import sys, pipeline.images.render; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
