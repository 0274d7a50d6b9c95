"""One run: set up, step, evaluate, save."""
