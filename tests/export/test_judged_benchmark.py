"""What benchmarks/judged.py counts adds up to the score that the task gives."""

import dataclasses
import importlib
import types

import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.export.judge import Data, Judgement
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training.evaluate import Split
from tests.support import tiny

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def script(repo):
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(repo / 'benchmarks'))
    yield importlib.import_module('judged')


def logits(*shape):
  return RNG.normal(size=shape)


def masked(rows, length):
  counts = RNG.random((rows, length)) < 0.4
  return {
    'counts': counts,
    'target': RNG.integers(0, 3, (rows, length)),
    'guess': RNG.integers(0, 3, (rows, length)),
    'nll': np.ones((rows, length)),
  }


# Task -> a name of its score here, one of the task's, and what it may keep.
CASES = {
  'sst2': ('accuracy', 'accuracy', lambda n, s, labels: {
    'logits': logits(n, labels)
  }),
  'squad_v1': ('F1', 'f1', lambda n, s, labels: {
    'start_logits': logits(n, s), 'end_logits': logits(n, s)
  }),
  'wnut17': ('F1', 'f1', lambda n, s, labels: {
    'logits': logits(n, s, labels)
  }),
  'masked_lm': ('accuracy', 'accuracy', lambda n, s, labels: masked(n, s)),
}  # fmt: skip


# What makes made-up examples differ.
CHANGES = {
  'sst2': lambda i: {'label': i % 2},
  # Answers are found by their id.
  'squad_v1': lambda i: {'id': str(i), 'context': 'word fine film good bad'},
  'wnut17': lambda i: {'tags': ('B-x', 'I-x', 'O', 'B-x', 'O', 'O')},
}


@pytest.fixture(scope='module')
def data_of(tmp_path_factory):
  vocab = tiny.write_vocab(tmp_path_factory.mktemp('vocab'))
  tokenizer = MobileBertTokenizerFast(vocab)

  def of(name):
    options = {'labels': ('O', 'B-x', 'I-x')} if name == 'wnut17' else {}
    task = TASKS[name].make_task(options, DataConfig(source='files', path='.'))
    examples = tuple(
      dataclasses.replace(example, **CHANGES.get(name, lambda i: {})(i))
      for i, example in enumerate(tuple(task.dummy_examples(6)) * 40)
    )
    if name == 'masked_lm':
      features = types.SimpleNamespace()
    else:
      features = task.encode(examples, tokenizer, max_length=80)
    return Data(task, Split('validation', examples, features), None)

  return of


@pytest.mark.parametrize('name', CASES)
def test_counts_add_up_to_the_score_of_the_task(name, script, data_of):
  called, theirs, make = CASES[name]
  data = data_of(name)
  task, split, _ = data
  rows = 40 if name == 'masked_lm' else len(split.features)
  length = 9 if name == 'masked_lm' else int(split.features.lengths().max())
  both = [make(rows, length, len(task.labels)) for _ in range(2)]
  found = []
  for kept in both:
    known, counts, score = script.counts(data, kept)
    assert known == called and len(counts) == 40
    wanted = task.score(kept, split.examples, split.features)[theirs]
    found.append(score(counts.sum(0)))
    assert found[-1] == pytest.approx(wanted)
  assert found[0] != found[1]
  judgement = Judgement(
    'validation', {}, {}, 100, 1, 0.5, dict(zip(('model', 'file'), both))
  )
  told = script.cell(data, judgement)
  lost = 100 * (found[1] - found[0])
  assert told.startswith(f'{lost:+.2f} (') and told.endswith(', 99.00%, 50.0%')
