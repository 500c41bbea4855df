"""Stage `classify`: see its README."""
