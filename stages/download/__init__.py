"""Stage `download`: see its README."""
