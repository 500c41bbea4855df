"""ICBM152 2009a nonlinear symmetric: T1 template, grey and white matter maps.

Averages over 152 young adults, 1 mm, skull-stripped, as `nilearn` carries them.
"""

from pathlib import Path

from stages.common.params import Settings
from stages.download.base import Fetched
from stages.download.packaged import PackagedSource, copy_source

_NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

SOURCE = PackagedSource(
    title="ICBM152 2009a nonlinear symmetric",
    url="https://nilearn.github.io",
    package="nilearn",
    folder="datasets/data",
    sha256={
        _NAME.format("t1"): (
            "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
        ),
        _NAME.format("gm"): (
            "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed"
        ),
        _NAME.format("wm"): (
            "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db"
        ),
    },
    licence=(
        "The wheel of nilearn is BSD-3-Clause; its description of these data says "
        "'License: unknown'. They come from the McConnell Brain Imaging Centre, "
        "Montreal Neurological Institute, McGill University: see its terms before "
        "redistributing them."
    ),
    citation=(
        "Fonov V, Evans AC, Botteron K, Almli CR, McKinstry RC, Collins DL. Unbiased "
        "average age-appropriate atlases for pediatric studies. NeuroImage 54(1), 2011."
    ),
)


GIVES = "anatomy"


class Params(Settings):
    """Nothing to choose."""


def fetch(_params: Params, folder: Path) -> Fetched:
    return copy_source(SOURCE, folder)
