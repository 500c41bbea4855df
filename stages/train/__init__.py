"""Stage `train`: see its README."""
