"""Counts what a compiled XLA program computes; needs no jax.

text            reads the text of a program
counts          matrix products, loops and communication
memory_traffic  bytes that an instruction reads and writes
"""
