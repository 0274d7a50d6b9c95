"""Several runs: GLUE, searches, recipes."""
