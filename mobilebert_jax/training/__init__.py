"""One run, from its settings to its report.

In the order in which to read:
  loop         the run from top to bottom; it names what follows
  hooks        the points at which a test looks on or stops a run
  setup        task, data, tokenizer, model, mesh and batches, put together
  method       what a run learns by; supervised by default
  train_step   the state (parameters, optimizer state, key) and one compiled
               step: loss, gradients, update
  optimizer    AdamW or LAMB, schedule, decay mask, clipping
  layerwise    LAMB, and a learning rate for each block
  mesh         devices as a mesh; arrays onto it and back
  evaluate     scores and predictions, every example once
  checkpoint   what is saved and restored, and whether it is whole; the latest
               and the best are kept
  run_state    position, scores, and which evaluation is the best
  workdir      the files of a run, and whether they may be used
  finish       predictions, curves, report, results
  scoring      the scores of a saved model, for eval.py
  profiling    traces of some steps
  failures     errors of libraries and of numbers, in one sentence
"""
