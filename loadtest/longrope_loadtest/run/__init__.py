"""Sending the load and writing down what comes back."""
