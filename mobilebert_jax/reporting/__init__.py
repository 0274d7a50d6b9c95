"""What a run tells while it works: numbers, curves, progress."""
