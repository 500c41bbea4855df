"""How an estimate becomes entries of the summary."""

from typing import Any

from stages.report.bootstrap import Estimate

Measures = dict[str, Any]


def put(values: Measures, name: str, estimate: Estimate) -> None:
    """Store a number with its interval; what is null has its reason beside it."""
    put_value(values, name, estimate.value, estimate.reason)
    low, high = estimate.interval or (None, None)
    put_value(values, f"{name}_low", low, estimate.reason)
    put_value(values, f"{name}_high", high, estimate.reason)


def put_value(values: Measures, name: str, value: float | None, reason: str) -> None:
    values[name] = None if value is None else rounded(value)
    if value is None:
        values[f"{name}_reason"] = reason


def rounded(value: float) -> float:
    # Adding 0.0 turns -0.0 into 0.0.
    return float(f"{value:.6g}") + 0.0
