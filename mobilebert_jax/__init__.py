"""MobileBERT in JAX: use, fine-tune, convert and export."""
