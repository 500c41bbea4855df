"""Stage `check`: see its README."""
