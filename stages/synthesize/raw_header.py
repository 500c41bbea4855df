"""The ISMRMRD header of measured k-space, as fastMRI's readers need it."""

from xml.etree import ElementTree
from xml.sax.saxutils import escape

_NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"
_SIZES = ("encodedSpace/matrixSize/{}", "reconSpace/matrixSize/{}")
_LIMITS = "encodingLimits/kspace_encoding_step_1/{}"

_TEMPLATE = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <acquisitionSystemInformation>
  <systemModel>{scanner}</systemModel>
  <receiverChannels>{coils}</receiverChannels>
 </acquisitionSystemInformation>
 <encoding>
  <encodedSpace>
   <matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize>
  </encodedSpace>
  <reconSpace>
   <matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
  </reconSpace>
  <encodingLimits>
   <kspace_encoding_step_1>
    <minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
   </kspace_encoding_step_1>
  </encodingLimits>
  <trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>
"""


def raw_header(
    shape: tuple[int, ...],
    recon: tuple[int, ...],
    *,
    columns: tuple[int, int] | None,
    scanner: str,
) -> str:
    """Write the header that fastMRI's readers need, for a file that has none.

    Args:
        shape: (slices, coils, H, W) of the k-space.
        recon: (H', W') of the target.
        columns: first and one past the last acquired column; None for all.
        scanner: its name.
    """
    coils, height, width = shape[1:]
    first, end = columns or (0, width)
    return _TEMPLATE.format(
        scanner=escape(scanner),
        coils=coils,
        height=height,
        width=width,
        rows=recon[0],
        columns=recon[1],
        last=end - first - 1,
        centre=width // 2 - first,
    )


def usable_header(header: str) -> bool:
    """Whether a header has every number that fastMRI's readers ask for."""
    names = [size.format(axis) for size in _SIZES for axis in "xyz"]
    names += [_LIMITS.format(name) for name in ("center", "maximum")]
    try:
        root = ElementTree.fromstring(header.encode())
        for name in names:
            steps = [_NAMESPACE + step for step in ("encoding", *name.split("/"))]
            int(root.findtext(".//" + "//".join(steps)) or "")
    except (ElementTree.ParseError, ValueError):
        return False
    return True
