"""Compares the question-answering pipeline with that of transformers 4.49.

transformers 5 has none any more. In an environment with this package, torch
and transformers 4.49.0: `PYTHONPATH=.:tests python
tests/golden/compare_question_answering_v4.py`. It ends with an error at the
first difference.
"""

import tempfile
import warnings

import transformers

from mobilebert_jax.pipelines import pipeline
from tests.support import pipeline_models

_TEXT = 'I live in Berlins, unaffable Zebra. Paris is the capital of France. '
_CALLS = (
  {},
  {'top_k': 4},
  {'align_to_words': False},
  {'max_answer_len': 2, 'top_k': 3},
  {'handle_impossible_answer': True, 'top_k': 6},
  {'max_seq_len': 32, 'doc_stride': 8},
  {'max_seq_len': 24, 'doc_stride': 4, 'top_k': 5},
)


def _check(ours, theirs):
  if isinstance(theirs, list):
    assert len(ours) == len(theirs), (ours, theirs)
    for a, b in zip(ours, theirs):
      _check(a, b)
    return
  assert abs(ours['score'] - theirs['score']) < 1e-5 * theirs['score'] + 1e-8
  for name in ('start', 'end', 'answer'):
    assert ours[name] == theirs[name], (ours, theirs)


def main():
  warnings.simplefilter('ignore')
  with tempfile.TemporaryDirectory() as path:
    pipeline_models.write(path, 'MobileBertForQuestionAnswering')
    theirs = transformers.pipeline('question-answering', path, device='cpu')
    ours = pipeline('question-answering', path)
    for repeat in (1, 3):
      for kwargs in _CALLS:
        example = {'question': 'where I live ?', 'context': _TEXT * repeat}
        _check(ours(**example, **kwargs), theirs(**example, **kwargs))
        print('equal', repeat, kwargs)


if __name__ == '__main__':
  main()
