"""Fine-tuning for tags and choices: the same losses as transformers."""

import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.tasks import TASKS
from tests.support import marks

pytestmark = [pytest.mark.parity, pytest.mark.data]

_STEPS = 50
_TORCH = ('input_ids', 'token_type_ids', 'attention_mask', 'labels', 'weights')


def batches(task, path, vocab, *, size, length, different=_STEPS):
  """Real training examples in the order of the file; batches may come again."""
  data = DataConfig(source='files', path=str(path), train_examples=1200)
  tokenizer = mb.MobileBertTokenizerFast(vocab)
  features = task.encode(task.load(data, 'train'), tokenizer, length)
  found = [
    features.batch(np.arange(start, start + size), length)
    for start in range(0, different * size, size)
  ]
  return [found[step % different] for step in range(_STEPS)]


def check(task, steps, loss, normalization, **config):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import learning

  shared = [{name: batch[name] for name in _TORCH} for batch in steps]
  assert len(shared) == _STEPS
  learning.check_small(
    task.head.__name__, config, shared, loss, normalization=normalization
  )


@pytest.mark.parametrize(
  ('normalization', 'label_all'), [('layer_norm', False), ('no_norm', True)]
)
def test_tags(shared_data, normalization, label_all):
  path = shared_data / 'ner'
  task = TASKS['wnut17'].make_task(
    {'label_all_subtokens': label_all, 'stride': 8},
    DataConfig(source='files', path=str(path)),
  )
  vocab = shared_data / 'vocab' / 'vocab.txt'
  steps = batches(task, path, vocab, size=16, length=32)
  labels = np.stack([batch['labels'] for batch in steps])
  assert (labels == -100).any() and len(np.unique(labels)) == 14
  check(task, steps, task.loss, normalization, num_labels=13)


# Layers with layer_norm learn alike below every head: see the tags above.
@pytest.mark.parametrize(
  'normalization', marks.long_but(('no_norm',), ('layer_norm', 'no_norm'))
)
def test_choices(shared_data, normalization):
  path = shared_data / 'multiple_choice'
  task = TASKS['commonsenseqa'].make_task({}, DataConfig())
  vocab = shared_data / 'vocab' / 'vocab.txt'
  steps = batches(task, path, vocab, size=4, length=24, different=4)
  # transformers knows no fillers: here every question has five choices.
  everyone = np.ones((4, 5), np.int32)
  assert all((batch['choice_mask'] == everyone).all() for batch in steps)

  def loss(outputs, batch):
    return task.loss(outputs, {**batch, 'choice_mask': everyone})

  # From the usual small weights all choices look the same for many steps, and
  # nothing is learnt from questions that are seen once.
  check(task, steps, loss, normalization, initializer_range=0.1)
