"""Why a source gives no image: this package's one error. The job that writes records catches it.

`reason` is a short stable code that goes into `failed.csv` and is counted in the manifest; the text
says what was found. Neither holds pixels nor anything from the source's metadata.
"""

REASONS = {
    "missing": "there is no such file",
    "empty": "the file has no bytes",
    "not_an_image": "the bytes are not of an image format that is read",
    "truncated": "the file ends before the image does",
    "damaged": "the decoder found the image's data to be corrupt",
    "unsupported": "an image, but of a kind that is not read (12-bit JPEG, floating-point TIFF, …)",
    "too_large": "the header claims more pixels than max_pixels: a decompression bomb",
}


class ImageError(ValueError):
    """A source that cannot be rendered; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, text: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {text}")
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Whole across processes: by default `__init__` would be called with the message alone."""
        return type(self), (self.reason, str(self).removeprefix(f"{self.reason}: "))
