"""Stage `aftermath`: see its README."""
