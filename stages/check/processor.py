"""What `params.yaml` asks of the processor that it does not have.

Precision changes numbers, so it is a parameter and no machine chooses it; but without
instructions for bfloat16 a processor takes ten times as long for it as for float32
(PyTorch 2.13, AVX2: a step of the default training 6 s instead of 0.5 s).
"""

import os
from pathlib import Path
from typing import Any

from stages.check.explain import at
from stages.check.pool import gpus

CPUINFO = Path("/proc/cpuinfo")
# oneDNN, which PyTorch computes with, emulates bfloat16 by AVX-512 at a fair speed.
ENOUGH = {"avx512bw", "avx512_bf16", "amx_bf16"}


def problems(params: dict[str, Any]) -> list[str]:
    """One line if this machine could train, but only in a hopeless time."""
    if at(params, "model", "precision") != "bf16" or not _only_a_slow_processor():
        return []
    return [
        "'model.precision' = 'bf16', and this processor has no instructions for it "
        "(AVX-512 or AMX): a training would take ten times as long as in float32. Set "
        "it to fp32 in params.yaml (results then differ from the committed ones by "
        "rounding), or use another machine"
    ]


def _only_a_slow_processor() -> bool:
    if (os.environ.get("MENDMRI_DEVICE") or "cuda") not in ("cpu", "cuda") or gpus():
        return False
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False  # no Linux: not known
    # Other architectures call them "Features".
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return flags is not None and not ENOUGH & set(flags)
