"""The ISMRMRD header that fastMRI's readers expect."""

_TEMPLATE = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <acquisitionSystemInformation>
  <systemVendor>simulated</systemVendor>
  <systemModel>{scanner}</systemModel>
  <systemFieldStrength_T>0.3</systemFieldStrength_T>
  <receiverChannels>{coils}</receiverChannels>
 </acquisitionSystemInformation>
 <experimentalConditions>
  <H1resonanceFrequency_Hz>12773000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace>{space}</encodedSpace>
  <reconSpace>{space}</reconSpace>
  <encodingLimits>
   <kspace_encoding_step_1>
    <minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
   </kspace_encoding_step_1>
  </encodingLimits>
  <trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>
"""

_SPACE = """
   <matrixSize><x>{matrix}</x><y>{matrix}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{fov:g}</x><y>{fov:g}</y><z>{thickness:g}</z></fieldOfView_mm>
  """


def ismrmrd_header(
    *, matrix: int, fov: float, thickness: float, coils: int, scanner: str
) -> str:
    """Describe a fully sampled square acquisition; lengths in mm."""
    space = _SPACE.format(matrix=matrix, fov=fov, thickness=thickness)
    return _TEMPLATE.format(
        scanner=scanner,
        coils=coils,
        space=space,
        last=matrix - 1,
        centre=matrix // 2,
    )
