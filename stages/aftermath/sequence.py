"""Requests that come one after the other: does what they break add up?

Bad files are found by and by. Each request names all that has been found so far, more
than the one before, and starts from what the one before has made of the model.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from stages.aftermath.measure import Level, Truth, measure
from stages.aftermath.workspace import lay_out
from stages.common import paths, substage
from stages.common.manifest import SliceRef, read_slices
from stages.common.varnet import load_checkpoint


def run_sequence(
    scenario: str,
    method: str,
    params: Mapping[str, Any],
    truth: Truth,
    *,
    requests: int,
) -> list[Level]:
    """Run a method on one request after the other.

    Args:
        scenario: whose known forget set comes in parts.
        method: of stage `unlearn`.
        params: the whole of `params.yaml`.
        truth: what each result is measured on.
        requests: number of parts.

    Returns:
        The level after each request.

    Raises:
        ValueError: there are fewer known slices than requests, or a request failed.
    """
    case = paths.case(scenario)
    known = read_slices(case / "forget.json", made_by=f"forget@{scenario}")
    model = case / "model.safetensors"
    levels = []
    for number, told in enumerate(parts(known, requests, scenario), start=1):
        folder = paths.SCRATCH / "aftermath" / scenario / method / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        lay_out(folder, scenario, params, told, model)
        ended = substage.run_unlearn(folder, scenario, method)
        if ended.checkpoint is None:
            raise ValueError(
                f"{method} refused request {number} of {requests} on {scenario}: "
                f"{ended.error}; see {folder / substage.LOG}"
            )
        model = ended.checkpoint
        levels.append(measure(load_checkpoint(model), truth))
    shutil.rmtree(paths.SCRATCH / "aftermath" / scenario / method)
    return levels


def parts(known: list[SliceRef], requests: int, scenario: str) -> list[list[SliceRef]]:
    """The forget set of each request: the last one is all of the known slices.

    Subjects are spread over the requests, since slices are sorted by volume.

    Raises:
        ValueError: a request would name nothing new.
    """
    if len(known) < requests:
        raise ValueError(
            f"'aftermath.requests' = {requests}, and scenario {scenario} has "
            f"{len(known)} known slices: use at most that many"
        )
    found = []
    for number in range(1, requests + 1):
        told = [ref for place, ref in enumerate(known) if place % requests < number]
        found.append(sorted(told))
    return found
