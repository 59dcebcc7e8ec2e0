"""`longrope plan`: what a model needs to be served at its lengths, from its config alone."""
