"""GLUE's averages, from the scores of its tasks on the development sets.

The benchmark takes each task's scores together by their mean and then the mean
over its nine tasks. BERT's paper leaves WNLI out, counts both halves of MNLI,
and takes one score of each task: F1 for QQP and MRPC, Spearman's correlation
for STS-B.
"""

import math
from collections.abc import Mapping

# Task -> the names of its scores in `results.json`.
SCORES: Mapping[str, tuple[str, ...]] = {
  'cola': ('validation/matthews',),
  'sst2': ('validation/accuracy',),
  'mrpc': ('validation/accuracy', 'validation/f1'),
  'stsb': ('validation/pearson', 'validation/spearman'),
  'qqp': ('validation/accuracy', 'validation/f1'),
  'mnli': ('validation_matched/accuracy', 'validation_mismatched/accuracy'),
  'qnli': ('validation/accuracy',),
  'rte': ('validation/accuracy',),
  'wnli': ('validation/accuracy',),
}
_BERT: Mapping[str, tuple[str, ...]] = {
  **SCORES,
  'mrpc': ('validation/f1',),
  'stsb': ('validation/spearman',),
  'qqp': ('validation/f1',),
  'wnli': (),
}

# Task -> score -> value.
Results = Mapping[str, Mapping[str, float]]


def task_score(task: str, scores: Mapping[str, float]) -> float:
  """One task's score as the benchmark takes it, from -1 to 1."""
  return _mean([scores[name] for name in SCORES[task]])


def benchmark(results: Results) -> float | None:
  """The benchmark's average of nine tasks; None if one is missing."""
  if not results.keys() >= SCORES.keys():
    return None
  return _mean([task_score(task, results[task]) for task in SCORES])


def bert(results: Results) -> float | None:
  """The average of BERT's paper, without WNLI; None if a task is missing."""
  if not results.keys() >= SCORES.keys() - {'wnli'}:
    return None
  return _mean(
    [results[task][name] for task, names in _BERT.items() for name in names]
  )


def _mean(values: list[float]) -> float:
  return math.fsum(values) / len(values)
