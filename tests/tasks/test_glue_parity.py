"""Fine-tuning on texts: the same losses as transformers, step by step.

One label (CoLA), a number (STS-B), and several labels at once.
"""

import dataclasses

import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.classification import classification_task
from mobilebert_jax.tasks.targets import MultiLabel

pytestmark = [pytest.mark.parity, pytest.mark.data]

_STEPS, _BATCH, _LENGTH = 50, 8, 32
_COLUMNS = ('input_ids', 'token_type_ids', 'attention_mask', 'labels')


def with_several_labels(examples):
  """What the sentences look like, as several labels at once."""
  return tuple(
    dataclasses.replace(
      example,
      label=tuple(
        number
        for number, applies in enumerate(
          (
            ' the ' in example.text,
            len(example.text) > 40,
            example.text.endswith('?'),
          )
        )
        if applies
      ),
    )
    for example in examples
  )


def task_and_examples(kind, data):
  if kind != 'several labels':
    task = TASKS[kind].make_task({}, data)
    return task, task.load(data, 'train')
  examples = TASKS['cola'].make_task({}, data).load(data, 'train')
  task = classification_task(
    'several',
    MultiLabel(('the', 'long', 'question')),
    load=lambda data, split: (),
    write_predictions=lambda *_: None,
  )
  return task, with_several_labels(examples)


@pytest.mark.parametrize(
  ('kind', 'normalization'),
  [
    ('cola', 'layer_norm'),
    pytest.param('cola', 'no_norm', marks=pytest.mark.long),
    pytest.param('stsb', 'layer_norm', marks=pytest.mark.long),
    ('stsb', 'no_norm'),
    ('several labels', 'layer_norm'),
  ],
)
def test_fine_tuning_follows_torch(shared_data, kind, normalization):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import learning

  data = DataConfig(
    source='files',
    path=str(shared_data / 'glue'),
    train_examples=_STEPS * _BATCH,
  )
  task, examples = task_and_examples(kind, data)
  tokenizer = mb.MobileBertTokenizerFast(shared_data / 'vocab' / 'vocab.txt')
  features = task.encode(examples, tokenizer, _LENGTH)
  rows = np.random.default_rng(0).permutation(_STEPS * _BATCH)
  steps = []
  for part in rows.reshape(_STEPS, _BATCH):
    batch = features.batch(part, _LENGTH)
    steps.append({name: batch[name] for name in (*_COLUMNS, 'weights')})
  labels = np.concatenate([batch['labels'] for batch in steps])
  assert labels.std() > 0.1
  assert len(steps) == _STEPS
  learning.check_small(
    task.head.__name__,
    task.model_overrides(),
    steps,
    task.loss,
    normalization=normalization,
  )
