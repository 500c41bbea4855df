"""Stage `synthesize`: see its README."""
