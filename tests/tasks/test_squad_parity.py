"""Fine-tuning on SQuAD: the same losses as transformers, step by step."""

import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import squad
from mobilebert_jax.tasks import TASKS
from tests.support import marks

pytestmark = [pytest.mark.parity, pytest.mark.data]

_STEPS, _BATCH, _LENGTH = 50, 8, 64


def batches(data):
  """Real windows that fill `max_length`.

  transformers lets padding take part in the softmax, this project does not:
  without padding there is no difference.
  """
  task = TASKS['squad_v1'].make_task(
    {'doc_stride': 24, 'max_query_length': 24}, DataConfig()
  )
  questions = list(
    squad.read_file(squad.find_file(data, 'dev-v1.1'), with_null=False)
  )[:400]
  tokenizer = mb.MobileBertTokenizerFast(data / 'vocab' / 'vocab.txt')
  features = task.encode(questions, tokenizer, _LENGTH)
  full = np.flatnonzero(features.lengths() == _LENGTH)
  full = np.random.default_rng(0).permutation(full)[: _STEPS * _BATCH]
  names = (
    'input_ids', 'token_type_ids', 'attention_mask', 'start_positions',
    'end_positions', 'weights',
  )  # fmt: skip
  found = []
  for rows in full.reshape(_STEPS, _BATCH):
    batch = features.batch(rows, _LENGTH)
    found.append({name: batch[name] for name in names})
  return task, found


# Layers with layer_norm learn alike below every head: see CoLA and tags.
@pytest.mark.parametrize(
  'normalization', marks.long_but(('no_norm',), ('layer_norm', 'no_norm'))
)
def test_fine_tuning_follows_torch(shared_data, normalization):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import learning

  task, steps = batches(shared_data)
  # Answers, and windows without one.
  starts = np.concatenate([batch['start_positions'] for batch in steps])
  assert 0.1 < np.mean(starts == 0) < 0.9
  assert len(steps) == _STEPS
  learning.check_small(
    task.head.__name__, {}, steps, task.loss, normalization=normalization
  )
