"""Reading, generating and batching data sets."""
