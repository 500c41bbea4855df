"""Stage `poison`: see its README."""
