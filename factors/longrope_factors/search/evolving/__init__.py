"""The evolution: what a candidate is, how it varies, and which candidates survive."""
