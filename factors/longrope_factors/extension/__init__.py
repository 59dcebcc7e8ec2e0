"""The papers' whole recipe for extending a model (arXiv 2402.13753, section 3.3)."""
