"""Stage `report`: see its README."""
