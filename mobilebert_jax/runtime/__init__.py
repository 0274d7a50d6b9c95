"""Machine and processes: errors, files, object stores, signals, locks."""
