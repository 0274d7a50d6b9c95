"""What GLUE asks for: the averages of its scores, and the submission's archive.

The benchmark takes each task's scores together by their mean and then the mean
over its nine tasks. BERT's paper leaves WNLI out, counts both halves of MNLI,
and takes one score of each task: F1 for QQP and MRPC, Spearman's correlation
for STS-B. https://gluebenchmark.com takes one archive of all predictions.
"""

import math
import pathlib
import zipfile
from collections.abc import Mapping

from mobilebert_jax.runtime import files

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
Scores = Mapping[str, Mapping[str, float]]


def task_score(task: str, scores: Mapping[str, float]) -> float:
  """Returns one task's score as the benchmark takes it, from -1 to 1."""
  return _mean([scores[name] for name in SCORES[task]])


def benchmark_average(results: Scores) -> float | None:
  """Returns the benchmark's average of nine tasks; None if one is missing."""
  if not results.keys() >= SCORES.keys():
    return None
  return _mean([task_score(task, results[task]) for task in SCORES])


def bert_average(results: Scores) -> float | None:
  """Returns BERT's average, without WNLI; None if a task is missing."""
  if not results.keys() >= SCORES.keys() - {'wnli'}:
    return None
  return _mean(
    [results[task][name] for task, names in _BERT.items() for name in names]
  )


def _mean(values: list[float]) -> float:
  return math.fsum(values) / len(values)


# Official file -> the task whose run writes it.
MEMBERS: Mapping[str, str] = {
  'CoLA.tsv': 'cola',
  'SST-2.tsv': 'sst2',
  'MRPC.tsv': 'mrpc',
  'STS-B.tsv': 'stsb',
  'QQP.tsv': 'qqp',
  'MNLI-m.tsv': 'mnli',
  'MNLI-mm.tsv': 'mnli',
  'QNLI.tsv': 'qnli',
  'RTE.tsv': 'rte',
  'WNLI.tsv': 'wnli',
  'AX.tsv': 'mnli',
}
# The earliest time that the format knows: equal files make equal archives.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_submission(
  path: pathlib.Path, predictions: Mapping[str, pathlib.Path]
) -> tuple[str, ...]:
  """Writes the archive; its members are official files and nothing else.

  Args:
    path: the archive; appears only when it is complete.
    predictions: for each finished task the directory of its predictions.

  Returns:
    The official files that are missing. The server takes only complete
    archives.
  """
  result = {
    name: file
    for name, task in MEMBERS.items()
    if task in predictions and (file := predictions[task] / name).is_file()
  }
  with (
    files.replacing(path) as partial,
    zipfile.ZipFile(partial, 'w') as archive,
  ):
    for name, file in result.items():
      member = zipfile.ZipInfo(name, _TIME)
      member.compress_type = zipfile.ZIP_DEFLATED
      member.external_attr = 0o644 << 16
      archive.writestr(member, file.read_bytes())
  return tuple(name for name in MEMBERS if name not in result)
