"""How large a picture may be, checked before memory is taken for it."""


class TooManyPixelsError(ValueError):
    """A picture is larger than whoever reads it allows; the message is a clause to be put after the file's name."""


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture of this size.

    Raises:
        TooManyPixelsError: it has more pixels.
    """
    if height * width > max_pixels:
        raise TooManyPixelsError(f"has {height}x{width} pixels, at most {max_pixels} are read. Cut or shrink it.")
