"""The page in the browser, for people who ask and for the operator."""
