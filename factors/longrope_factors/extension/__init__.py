"""The papers' whole recipe, from a model to an extended one (arXiv 2402.13753, section 3.3)."""
