"""Why a source gives no image: this package's one error. The job that writes records catches it.

`reason` is a short stable code that goes into `failed.csv` and is counted in the manifest; the text
says what was found. Neither holds pixels nor anything from the source's metadata.
"""

REASONS = {
    "missing": "there is no such file",
    "unreadable": "there is a file, but the system does not give its bytes",
    "outside_root": "a symbolic link leads out of the images' root",
    "empty": "the file has no bytes",
    "not_an_image": "the bytes are not of an image format that is read",
    "truncated": "the file ends before the image does",
    "damaged": "the decoder found the image's data to be corrupt",
    "unsupported": "an image, but of a kind that is not read (12-bit JPEG, floating-point TIFF, …)",
    "too_large": "more pixels than max_pixels in the header, or than an output may have",
    "too_small": "a size would enlarge the image, and no_enlarge forbids it",
}


class ImageError(ValueError):
    """A source that cannot be rendered; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, text: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {text}")
        self.reason, self.text = reason, text

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Whole across processes: by default `__init__` would be called with the message alone."""
        return type(self), (self.reason, self.text)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """`ImageError` for what a header claims, before memory is asked for."""
    if width * height > max_pixels:
        raise ImageError("too_large", f"{width}×{height} pixels, over max_pixels = {max_pixels}")
