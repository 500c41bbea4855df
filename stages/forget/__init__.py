"""Stage `forget`: see its README."""
