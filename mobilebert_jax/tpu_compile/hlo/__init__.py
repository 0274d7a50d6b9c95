"""Counts what a compiled XLA program computes; needs no jax.

text            reads the text of a program
loops           how often each loop runs
products        FLOPs of a matrix product
counts          all that a program computes, moves and sends
memory_traffic  bytes that an instruction reads and writes
"""
