"""Rotating each token by its position under the factor set packed with it."""
