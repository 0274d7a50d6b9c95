"""What a run says of itself: logged values, pictures, and the report.

In the order of reading:
  metrics_log  `metrics.jsonl` and TensorBoard events, a line for each step
  wandb_log    the same lines for Weights & Biases
  outcomes     what became of one example; counts and rates of classes
  markdown     escaped text and tables
  pictures     curves of a run, and the report's pictures
  start_summary  what was found in the data, before a run begins
  html         the report as one page, with its pictures inside
  report       `report.md`: scores, pictures, worst mistakes

The pictures of experiments stand with the experiments; progress bars are in
`runtime/progress`.
"""
