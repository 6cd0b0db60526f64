"""A report of `bench` as lines for a terminal, and its samples as a table."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def summary(report: Mapping[str, Any]) -> str:
    """Return the report for people."""
    return "".join(f"{line}\n" for line in _lines(report))


def samples_csv(frames_ms: Mapping[str, Sequence[float]]) -> bytes:
    """Return the time of every frame [ms] as CSV, by model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "frame", "ms"])
    for name, taken_ms in frames_ms.items():
        writer.writerows([name, number, f"{value_ms:.6f}"] for number, value_ms in enumerate(taken_ms))
    return text.getvalue().encode()


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report["benched"]:
        yield from _model_lines(each)
    paired = report["paired"]
    if paired is not None:
        yield (
            f"{paired['of']} takes {paired['ratio']:.3f} times as long as {paired['over']} "
            f"(95 % interval {paired['low']:.3f} to {paired['high']:.3f})"
        )
    yield from _machine_lines(report)


def _model_lines(each: Mapping[str, Any]) -> Iterator[str]:
    latency, power, joules = each["latency"], each["power"], each["joules_per_frame"]
    low_ms, high_ms = each["median_interval_ms"]
    yield (
        f"{each['entry']}: {latency['p50_ms']:.2f} ms a frame (95 % interval {low_ms:.2f} to {high_ms:.2f}), "
        f"p99 {latency['p99_ms']:.2f}, {each['verdict']}; {each['ran_on']}"
    )
    parts = ", ".join(f"{part} {value:.2f}" for part, value in each["parts_ms"].items() if value is not None)
    yield f"  parts [ms]  {parts}"
    energy = power["reason"] if joules is None else f"{joules:.4f} J a frame, of {power['of']} ({power['source']})"
    yield f"  energy      {energy}"
    for reason in each["reasons"]:
        yield f"  {each['verdict']}: {reason}"


def _machine_lines(report: Mapping[str, Any]) -> Iterator[str]:
    device, after = report["device"], report["conditions"]["after"]
    mode = " ".join((after["power_mode"] or "").split())
    said = "; ".join(name for name in (device["board"] or device["cpu"], device["gpu"], mode) if name)
    if said:
        yield f"on {said}"
    slow = [
        f"{name} {clock['now']:.0f} of {clock['max']:.0f}"
        for name, clock in after["clocks_mhz"].items()
        if clock["now"] < clock["max"]
    ]
    if slow:
        yield f"  clocks [MHz] below their maximum: {', '.join(slow[:6])}{' ...' if len(slow) > 6 else ''}"
