"""Results of the pipelines against those of transformers, live.

Question answering, which transformers 5 has no pipeline for, is compared by
`tests/golden/compare_question_answering_v4.py` in an environment with 4.49.
"""

import numpy as np
import pytest

from mobilebert_jax.pipelines import pipeline

pytestmark = pytest.mark.parity

_TEXTS = [
  'Paris is the capital of France.',
  'unaffable berlins, Zebra is good',
  'a',
  '',
  'where is the example of this ? i live in paris , berlin . ' * 3,
]


def _directory(path, class_name, **config):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import pipeline_models

  return pipeline_models.write(path, class_name, **config)


def _both(task, path):
  transformers = pytest.importorskip('transformers')
  theirs = transformers.pipeline(task, str(path), device='cpu')
  return pipeline(task, path), theirs


def _compare(a, b):
  """Equal structure and text, numbers to 1e-4 of probabilities near 1."""
  if isinstance(b, dict):
    assert set(a) == set(b)
    for key in b:
      _compare(a[key], b[key])
  elif isinstance(b, (list, tuple)):
    assert len(a) == len(b)
    for x, y in zip(a, b):
      _compare(x, y)
  elif isinstance(b, (float, np.floating)):
    assert a == pytest.approx(float(b), rel=1e-4, abs=1e-6)
  else:
    assert a == b


def test_fill_mask(tmp_path):
  ours, theirs = _both(
    'fill-mask', _directory(tmp_path, 'MobileBertForMaskedLM')
  )
  texts = ['Paris is the [MASK] of France.', 'a [MASK] b [MASK]', '[MASK]']
  for text in texts:
    _compare(ours(text), theirs(text))
  _compare(ours(texts, top_k=3), theirs(texts, top_k=3))
  _compare(ours(texts[:1]), theirs(texts[:1]))
  aimed = {'targets': ['good', 'bad', 'Zebra']}
  _compare(ours(texts[0], **aimed), theirs(texts[0], **aimed))


@pytest.mark.parametrize(
  'config',
  [
    {'num_labels': 3},
    {'num_labels': 1},
    {'num_labels': 3, 'problem_type': 'multi_label_classification'},
    {'num_labels': 1, 'problem_type': 'regression'},
  ],
)
def test_text_classification(tmp_path, config):
  path = _directory(tmp_path, 'MobileBertForSequenceClassification', **config)
  ours, theirs = _both('text-classification', path)
  _compare(ours(_TEXTS), theirs(_TEXTS))
  _compare(ours(_TEXTS[0]), theirs(_TEXTS[0]))
  _compare(ours(_TEXTS, top_k=None), theirs(_TEXTS, top_k=None))
  _compare(ours(_TEXTS[0], top_k=2), theirs(_TEXTS[0], top_k=2))
  pair = {'text': _TEXTS[0], 'text_pair': _TEXTS[1]}
  _compare(ours(pair), theirs(pair))
  _compare(ours([pair], top_k=1), theirs([pair], top_k=1))
  raw = {'function_to_apply': 'none', 'top_k': None}
  _compare(ours(_TEXTS[1], **raw), theirs(_TEXTS[1], **raw))


@pytest.mark.parametrize(
  'strategy', ['none', 'simple', 'first', 'average', 'max']
)
def test_token_classification(tmp_path, strategy):
  labels = dict(enumerate(['O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC']))
  path = _directory(
    tmp_path,
    'MobileBertForTokenClassification',
    id2label=labels,
    label2id={v: k for k, v in labels.items()},
  )
  ours, theirs = _both('token-classification', path)
  kwargs = {'aggregation_strategy': strategy}
  _compare(ours(_TEXTS[0], **kwargs), theirs(_TEXTS[0], **kwargs))
  _compare(ours(_TEXTS, **kwargs), theirs(_TEXTS, **kwargs))
  kwargs['ignore_labels'] = []
  _compare(ours(_TEXTS, **kwargs), theirs(_TEXTS, **kwargs))


def test_feature_extraction(tmp_path):
  ours, theirs = _both(
    'feature-extraction', _directory(tmp_path, 'MobileBertModel')
  )
  for a, b in zip(ours(_TEXTS), theirs(_TEXTS)):
    a, b = np.array(a), np.array(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()


@pytest.mark.parametrize('multi_label', [False, True])
def test_zero_shot(tmp_path, multi_label):
  labels = dict(enumerate(['contradiction', 'neutral', 'entailment']))
  path = _directory(
    tmp_path,
    'MobileBertForSequenceClassification',
    id2label=labels,
    label2id={v: k for k, v in labels.items()},
  )
  ours, theirs = _both('zero-shot-classification', path)
  kwargs = {
    'candidate_labels': ['good', 'bad', 'paris'],
    'multi_label': multi_label,
  }
  _compare(ours(_TEXTS[0], **kwargs), theirs(_TEXTS[0], **kwargs))
  _compare(ours(_TEXTS[:2], **kwargs), theirs(_TEXTS[:2], **kwargs))
