"""Other programs' forms of factor sets."""
