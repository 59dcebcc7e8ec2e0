"""What a run was, in figures; two runs compared."""
