"""Hash the code of each kind of cell."""
