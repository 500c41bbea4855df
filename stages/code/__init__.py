"""Write down the code and the parameters of each kind of cell."""
