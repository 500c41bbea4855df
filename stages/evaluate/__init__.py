"""Stage `evaluate`: see its README."""
