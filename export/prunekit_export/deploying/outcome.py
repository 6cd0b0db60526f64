"""What a device said of a bundle: its reports are a stranger's, so each number is looked at before it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_TEXT = 200
Report = dict[str, Any]


@dataclass(frozen=True)
class ModelRow:
    """One model on one device; what was not measured is None."""

    model: str
    p50_ms: float | None
    p99_ms: float | None
    joules_per_frame: float | None
    miou: float | None
    agreement: float | None
    passed: bool | None
    """By the golden pictures."""
    verdict: str | None
    """Of the measurement: stable, noisy or throttled."""
    ran_on: str | None


@dataclass(frozen=True)
class DeviceOutcome:
    """A device at the end."""

    host: str
    rows: tuple[ModelRow, ...]
    error: str | None
    """Why it did not come to the end."""
    reports: tuple[str, ...]
    """Files that were brought back."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all was done, and every model passed its check."""
        return self.error is None and bool(self.rows) and all(row.passed for row in self.rows)


def rows_of(reports: Mapping[str, Report]) -> tuple[ModelRow, ...]:
    """Return a row for each model of the reports of `check` and `bench`."""
    checked = _by_entry(reports.get("check", {}).get("checked"))
    benched = _by_entry(reports.get("bench", {}).get("benched"))
    names = list(dict.fromkeys((*checked, *benched)))
    return tuple(_row(name, checked.get(name, {}), benched.get(name, {})) for name in names)


def sentences_of(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield what failed, in the device's own words."""
    for name in ("build", "check", "bench"):
        for failure in _objects(reports.get(name, {}).get("failed")):
            yield f"{name} of {_text(failure.get('entry'))}: {_text(failure.get('error'))}"
    for report in _objects(reports.get("check", {}).get("checked")):
        for sentence in cast("list[Any]", report.get("failures") or [])[:8]:
            yield f"check of {_text(report.get('entry'))}: {_text(sentence)}"


def _row(name: str, check: Report, bench: Report) -> ModelRow:
    measured, latency = _object(check.get("measured")), _object(bench.get("latency"))
    passed, verdict, ran_on = check.get("passed"), bench.get("verdict"), bench.get("ran_on") or check.get("ran_on")
    return ModelRow(
        model=name,
        p50_ms=_number(latency.get("p50_ms")),
        p99_ms=_number(latency.get("p99_ms")),
        joules_per_frame=_number(bench.get("joules_per_frame")),
        miou=_number(measured.get("miou")),
        agreement=_number(measured.get("agreement")),
        passed=passed if isinstance(passed, bool) else None,
        verdict=_text(verdict) if verdict is not None else None,
        ran_on=_text(ran_on) if ran_on is not None else None,
    )


def _by_entry(values: Any) -> dict[str, Report]:
    return {_text(report.get("entry")): report for report in _objects(values)}


def _objects(values: Any) -> list[Report]:
    listed = cast("list[Any]", values) if isinstance(values, list) else []
    return [cast("Report", value) for value in listed[:64] if isinstance(value, dict)]


def _object(value: Any) -> Report:
    return cast("Report", value) if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _text(value: Any) -> str:
    return printable_name(str(value))[:_MAX_TEXT]
