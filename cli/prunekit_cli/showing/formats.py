"""Numbers as people read them."""

import math


def duration(seconds: float) -> str:
    """Return "4 s", "2 min 10 s" or "1 h 05 min"; "-" where the time is not known yet."""
    if not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(number: int, what: str) -> str:
    """Return a number of things: "1 epoch", "5 epochs"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def quantity(value: float) -> str:
    """Return a count with three digits and its SI letter: "1.23 M"."""
    for power, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * power:  # 999 950 reads 1 M, not 1e+03 k
            return f"{value / power:.3g}{letter}"
    return f"{value:.3g}"


def file_size(size_bytes: int) -> str:
    """Return a size in KiB or MiB."""
    return f"{size_bytes / 2**20:.1f} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:.1f} KiB"


def percent(share: float) -> str:
    """Return a share as a percentage with one digit."""
    return f"{100 * share:.1f} %"


def pixel_share(share: float) -> str:
    """Return a share of pixels as a percentage with two digits; what occurs never reads as nothing."""
    if share == 0:
        return "none"
    return "< 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def score(value: float | None) -> str:
    """Return an IoU with four digits; "-" where it was not measured or no class was present."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def milliseconds(value_ms: float) -> str:
    """Return a latency with three significant digits or more: "0.412 ms", "15.31 ms"."""
    return f"{value_ms:.3f} ms" if value_ms < 1 else f"{value_ms:.2f} ms"
