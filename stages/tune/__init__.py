"""Stage `tune`: see its README."""
