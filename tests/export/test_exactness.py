"""float32 against float64: served models lose nothing to large constants."""

import jax
import numpy as np
import pytest
import scipy.special

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import folding, graph
from mobilebert_jax.inference.operations import numpy_operations
from tests.support import served

HEAD = 'MobileBertForSequenceClassification'
SIZES = {
  'hidden_size': 64, 'embedding_size': 32, 'intra_bottleneck_size': 32,
  'intermediate_size': 64, 'num_hidden_layers': 12,
  'num_attention_heads': 4, 'max_position_embeddings': 32,
}  # fmt: skip


def errors(size, measured=None):
  """Largest errors of probabilities: folded with means, and the model's."""
  with jax.enable_x64(True):
    model, params = served.make(HEAD, **SIZES)
    params = jax.tree.map(lambda x: np.array(x) * 0.5, params)
    served.add_offsets(params, size)
    # The truth is float64 with the weights that a float32 model has.
    params = jax.tree.map(np.float32, params)
    wide = jax.tree.map(np.float64, params)
    batch = served.make_batch(HEAD, rows=32, length=24)
    batch['attention_mask'][:, :4] = 1
    truth = served.expected(model, wide, batch)['logits']
  narrow = type(model)(model.config)
  plain = served.expected(narrow, params, batch)['logits']
  if measured is None:
    measured = [served.make_batch(HEAD, rows=8, length=24, seed=9)]
  means = folding.measure_means(HEAD, model.config, params, measured)
  folded = folding.fold(HEAD, model.config, params, means=means)
  operations = numpy_operations(np.float32)
  exact = graph.apply(folded, operations, batch)['logits']
  assert exact.dtype == np.float32
  truth = scipy.special.softmax(truth, axis=-1)
  return [
    np.abs(scipy.special.softmax(np.float64(logits), axis=-1) - truth).max()
    for logits in (exact, plain)
  ]


@pytest.mark.parametrize('size', [0.0, 300.0, 3e4])
def test_probabilities_are_right_to_a_millionth(size):
  exact, plain = errors(size)
  assert exact < max(1e-6, 2 * plain if size == 0 else 0)


def test_means_without_text_are_as_good():
  config = MobileBertConfig(**{**served.TINY, **SIZES})
  exact, plain = errors(3e4, folding.default_batches(HEAD, config))
  assert exact < 1e-6 < plain


@pytest.mark.parametrize('vocab', [40, 30522])
@pytest.mark.parametrize('head', served.HEADS)
def test_means_without_text_are_of_fixed_sequences(head, vocab):
  config = MobileBertConfig(vocab_size=vocab, max_position_embeddings=48)
  batches = folding.default_batches(head, config)
  again = folding.default_batches(head, config)
  for batch, other in zip(batches, again, strict=True):
    assert {*batch} == {*graph.INPUTS}
    for name, value in batch.items():
      np.testing.assert_array_equal(value, other[name])
  ids = [batch['input_ids'] for batch in batches]
  shapes = [x.reshape(-1, x.shape[-1]).shape for x in ids]
  assert sum(rows for rows, _ in shapes) == 64
  assert (shapes[0][1], shapes[-1][1]) == (4, 48)
  assert all(x.min() >= 0 and x.max() < vocab for x in ids)
  axes = 3 if head == 'MobileBertForMultipleChoice' else 2
  assert {x.ndim for x in ids} == {axes}
  if vocab == 30522:
    assert all((x[..., 0] == 101).all() for x in ids)
    assert all((x[..., -1] == 102).all() for x in ids)


def test_without_it_constants_would_cost_digits():
  """What the test above would see if nothing were subtracted."""
  exact, plain = errors(3e4)
  assert plain > 100 * exact
