"""Send the load and record what comes back."""
