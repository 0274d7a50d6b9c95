"""Compiles a run's steps for TPU slices that are not at hand, and counts.

In the order of reading:
  topology      chips, and the slices of them that libtpu compiles for
  inputs        a run's model and batches without its data and weights
  program       lowers and compiles the steps that train.py runs
  distillation  the steps of a run with a teacher
  hlo/          what a compiled program computes, moves and communicates
  analytic      FLOPs by formula
  roofline      how long a step takes at least
  report        what a compiled run amounts to, as values and as text
  session       all of it, and the search for settings that fit
"""
