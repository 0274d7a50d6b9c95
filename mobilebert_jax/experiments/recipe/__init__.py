"""From text to a fine-tuned student: vocabulary, data, and runs, in a chain."""
