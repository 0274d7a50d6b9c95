"""Tasks on the user's own text and tables."""
