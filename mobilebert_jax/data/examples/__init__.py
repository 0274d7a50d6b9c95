"""From text to examples of pre-training."""
