"""Fine-tuning a model under a factor set: LongRoPE, arXiv 2402.13753, section 3.3."""
