"""In which precision the U-Nets run on the processor that is there."""

import logging
from functools import lru_cache
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]

log = logging.getLogger("mendmri")


def runs_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether the U-Nets run in bfloat16 there; else in float32.

    `auto` is bfloat16 where the processor has instructions for it. Elsewhere it is
    emulated, which takes 15 times as long as float32 (AVX2, PyTorch 2.13).
    """
    if precision == "auto":
        return has_bf16(device.type)
    if precision == "bf16" and not has_bf16(device.type):
        _warn(device.type)
    return precision == "bf16"


@lru_cache
def has_bf16(device_type: str) -> bool:
    """Whether bfloat16 is no slower than float32 on a kind of device."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


@lru_cache
def _warn(device_type: str) -> None:
    """Said once a process."""
    log.warning(
        "model.precision = bf16, and this %s has no instructions for it: it is "
        "emulated, many times slower than float32; 'auto' would take float32 here",
        device_type,
    )
