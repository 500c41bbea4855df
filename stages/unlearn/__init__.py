"""Stage `unlearn`: see its README."""
