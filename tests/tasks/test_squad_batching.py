"""Windows mean the same in every kind of batch."""

import jax
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax import models
from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.data.readers import squad
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.evaluate import Evaluator, Split
from tests.support import squad_files

CONFIG = mb.MobileBertConfig(
  vocab_size=200,
  hidden_size=16,
  intra_bottleneck_size=16,
  embedding_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=16,
  num_feedforward_networks=1,
  max_position_embeddings=96,
  normalization_type='layer_norm',
  initializer_range=0.3,
)


@pytest.fixture(scope='module')
def split(tmp_path_factory):
  """Windows of many lengths, one that fills max_length among them."""
  folder = tmp_path_factory.mktemp('squad')
  squad_files.write(folder, '2.0', squad_files.v2())
  examples = list(squad.read_file(folder / 'dev-v2.0.json', with_null=True))
  examples += [
    squad.Question(f'short {i}', 'Who?', text, (squad.Answer('he', start),))
    for i, (text, start) in enumerate([('It was he.', 7), ('he', 0)])
  ]
  features = task().encode(examples, squad_files.tokenizer(), 96)
  assert features.lengths().max() == 96 and features.lengths().min() < 16
  return Split('validation', tuple(examples), features)


def task():
  options = {'doc_stride': 40, 'max_query_length': 20}
  return TASKS['squad_v2'].make_task(options, DataConfig())


def evaluate(split, batching):
  config = TrainConfig(
    task='squad_v2',
    data=DataConfig(max_length=96, batching=batching),
    num_steps=1,
    eval_batch_size=8,
  )
  mesh = device_mesh.make_mesh()
  with jax.set_mesh(mesh):
    model = task().head(CONFIG)
    params = models.init_params(model, jax.random.key(0))
    # A [PAD] row that would be seen, if anything saw it that should not.
    table = params['mobilebert']['embeddings']['word_embeddings']
    table['embedding'] = table['embedding'].at[0].set(3.0)
    evaluator = Evaluator(task(), model, mesh, config)
    scores = evaluator.scores(params, [split])
    return scores, evaluator.predictions(params, split)


@pytest.mark.slow
def test_packed_bucketed_and_padded_agree(split):
  padded, logits = evaluate(split, 'padded')
  for batching in ('bucketed', 'packed'):
    scores, found = evaluate(split, batching)
    assert scores.keys() == padded.keys()
    for name, value in padded.items():
      assert scores[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    for name, expected in logits.items():
      scale = np.abs(expected).max()
      np.testing.assert_allclose(found[name], expected, atol=1e-5 * scale)
  assert padded['validation/loss'] > 0.5
