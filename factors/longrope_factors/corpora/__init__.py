"""Long texts to search, train and evaluate on."""
