"""Long texts for searching, training and evaluating."""
