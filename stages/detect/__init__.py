"""Stage `detect`: see its README."""
