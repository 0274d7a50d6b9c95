"""Packing: which example goes where, and that it changes no number."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.data.batching.packing import Packer, best_fit
from mobilebert_jax.models import embeddings, packing
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import train_step
from tests.support import marks, packed


@pytest.mark.parametrize(
  ('sizes', 'most', 'expected'),
  [
    ([], 9, []),
    ([10], 9, [0]),
    # The 6 leaves 4, the 7 leaves 3: 3 goes where it fits most tightly.
    ([3, 6, 7], 9, [0, 1, 0]),
    ([4, 6, 7, 3], 9, [1, 1, 0, 0]),
    ([2, 2, 2, 2, 2, 2], 9, [0, 0, 0, 0, 0, 1]),
    ([2, 2, 2, 2, 2, 2], 2, [0, 0, 1, 1, 2, 2]),
  ],
)
def test_best_fit_decreasing(sizes, most, expected):
  assert best_fit(sizes, 10, most).tolist() == expected


def test_rows_are_never_too_full():
  rng = np.random.default_rng(0)
  for most in (3, 16):
    sizes = rng.integers(1, 129, 500)
    rows = best_fit(sizes, 128, most)
    used = np.bincount(rows, sizes)
    assert used.max() <= 128
    assert np.bincount(rows).max() <= most
    if most == 16:
      assert used.sum() > 0.97 * 128 * len(used)


@pytest.mark.parametrize('multiple', [1, 8])
def test_batches_have_few_shapes_and_little_waste(multiple):
  features = packed.make_features(count=2048, seed=3)
  packer = Packer(features, 64, multiple)
  counts = []
  for examples in np.arange(2048).reshape(-1, 64):
    placement, count = packer.place(examples)
    assert count % multiple == 0
    assert placement.rows.max() < count
    counts.append(count)
  assert len(set(counts)) <= 4
  used = features.slots().sum() / (np.sum(counts) * packed.MAX_LENGTH)
  assert used > (0.85 if multiple == 1 else 0.8)


def test_the_number_of_rows_has_bounds():
  full = packed.make_features(count=8)
  lengths = full.slots()
  packer = Packer(full, 6, 4)
  # Even where rounding up says more, one row for each example is enough.
  assert packer.place(np.arange(6))[1] <= 8
  assert packer.place(np.arange(1))[1] >= 1
  assert lengths.max() == packed.MAX_LENGTH


def test_a_packed_batch_by_hand():
  features = packed.make_features('tags', count=3)
  features = type(features)(
    {
      'input_ids': features.sequences['input_ids'].from_rows(
        [[5, 6], [7] * 16, [8, 9, 10]]
      ),
      'labels': features.sequences['labels'].from_rows(
        [[1, 2], [3] * 16, [4, 5, 6]]
      ),
    },
    {'targets': np.array([[0.5, 1], [2, 3], [4, 5]], np.float32)},
    {'input_ids': 0, 'labels': -100},
    max_length=16,
  )
  batch, placement = Packer(features, 3, 1).batch(np.array([2, 0, 1]))
  nobody, away = [0] * 9, [-100] * 9
  expected = {
    'input_ids': np.array([[7] * 16, [8, 9, 10, 0, 5, 6, 0, *nobody]]),
    'labels': np.array([[3] * 16, [4, 5, 6, -100, 1, 2, -100, *away]]),
    'attention_mask': np.array([[1] * 16, [1, 1, 1, 0, 1, 1, 0, *nobody]]),
    'segment_ids': np.array([[1] * 16, [1, 1, 1, 1, 2, 2, 2, *nobody]]),
    'cls_positions': np.array([[0, 0, 0, 0], [0, 4, 0, 0]]),
  }
  expected = {k: v.astype(np.int32) for k, v in expected.items()}
  empty = [0, 0]
  expected['weights'] = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], np.float32)
  expected['targets'] = np.array(
    [[[2, 3], empty, empty, empty], [[4, 5], [0.5, 1], empty, empty]],
    np.float32,
  )
  chex.assert_trees_all_equal(batch, expected)
  for name, value in expected.items():
    assert batch[name].dtype == value.dtype
  assert placement.examples.tolist() == [2, 0, 1]
  assert placement.rows.tolist() == [1, 1, 0]
  assert placement.slots.tolist() == [0, 1, 0]
  assert placement.starts.tolist() == [0, 4, 0]


def test_choices_of_an_example_share_a_row():
  features = packed.make_features('choice', count=10)
  batch, placement = Packer(features, 10, 1).batch(np.arange(10))
  assert batch['input_ids'].shape[1] == 3 * packed.MAX_LENGTH
  assert batch['cls_positions'].shape[1:] == (4, 3)
  assert batch['choice_mask'].shape == batch['cls_positions'].shape
  ids = features.sequences['input_ids']
  for example, row, slot in zip(
    placement.examples, placement.rows, placement.slots
  ):
    for choice in range(3):
      start = batch['cls_positions'][row, slot, choice]
      mine = batch['segment_ids'][row] == 3 * slot + choice + 1
      real = mine & (batch['attention_mask'][row] > 0)
      assert mine.argmax() == start
      expected = ids.take(np.array([3 * example + choice])).values
      chex.assert_trees_all_equal(batch['input_ids'][row, real], expected)


def test_per_example_flattens_scalar_columns_alone():
  batch = {
    'cls_positions': np.zeros((2, 3, 4)),
    'labels': np.arange(6).reshape(2, 3),
    'choice_mask': np.arange(24).reshape(2, 3, 4),
    'input_ids': np.zeros((2, 16)),
  }
  flat = packing.per_example(batch)
  assert {k: v.shape for k, v in flat.items()} == {
    'cls_positions': (2, 3, 4),
    'labels': (6,),
    'choice_mask': (6, 4),
    'input_ids': (2, 16),
  }
  assert flat['labels'].tolist() == list(range(6))
  del batch['cls_positions']
  assert packing.per_example(batch)['labels'].shape == (2, 3)


def test_example_logits_by_hand():
  low = np.finfo(np.float32).min
  logits = jnp.arange(12.0, dtype=jnp.float32).reshape(2, 6)
  batch = {
    'segment_ids': np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]]),
    'attention_mask': np.array([[1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    'cls_positions': np.array([[0, 3], [0, 0]]),
  }
  whole = [6, 7, 8, 9, 10, 11]
  expected = np.array(
    [[0, 1, low, low, low, low], [3, low, low, low, low, low], whole, whole]
  )
  got = jax.jit(packing.example_logits)(logits, batch)
  chex.assert_trees_all_equal(got, expected.astype(np.float32))
  alone = {'attention_mask': batch['attention_mask']}
  chex.assert_trees_all_equal(
    packing.example_logits(logits, alone),
    np.array([[0, 1, low, 3, low, low], whole], np.float32),
  )


def test_token_weights_are_those_of_the_example():
  batch = {
    'input_ids': np.zeros((2, 4)),
    'segment_ids': np.array([[1, 1, 2, 0], [1, 1, 1, 1]]),
    'cls_positions': np.array([[0, 2], [0, 0]]),
    'weights': jnp.array([2.0, 3.0, 5.0, 0.0]),
  }
  chex.assert_trees_all_equal(
    packing.token_weights(batch),
    jnp.array([[2.0, 2.0, 3.0, 0.0], [5.0, 5.0, 5.0, 5.0]]),
  )
  alone = {'input_ids': np.zeros((2, 3)), 'weights': jnp.array([2.0, 0.0])}
  chex.assert_trees_all_equal(
    packing.token_weights(alone), jnp.array([[2.0] * 3, [0.0] * 3])
  )


SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 3, 0, 0], [1, 2, 2, 2, 2, 2, 2, 2]])


def test_positions_begin_anew_in_each_segment():
  chex.assert_trees_all_equal(
    packing.segment_positions(SEGMENTS),
    jnp.array([[0, 1, 2, 0, 1, 0, 0, 0], [0, 0, 1, 2, 3, 4, 5, 6]]),
  )


def test_the_trigram_ends_where_a_segment_ends():
  x = jnp.arange(1.0, 9.0).reshape(1, 8, 1)
  following, _, previous = embeddings.trigram(x, SEGMENTS[:1])[0].T
  assert following.tolist()[:6] == [2, 3, 0, 5, 0, 0]
  assert previous.tolist()[:6] == [0, 1, 2, 0, 4, 0]


@pytest.fixture(
  scope='module', params=marks.slow_but(('classification',), packed.HEADS)
)
def both(request):
  """Loss, gradients and logits of a head in float64: packed and otherwise."""
  head = request.param
  # Nobody fills max_length: a bucket may be shorter.
  features = packed.make_features(head, longest=packed.MAX_LENGTH - 4)
  with jax.enable_x64(True):
    model = packed.make_model(head, dtype='float64', param_dtype='float64')
    params = packed.make_params(model)
    return {
      kind: packed.run(head, model, params, features, kind, buckets=buckets)
      for kind, buckets in (
        ('padded', ()),
        ('bucketed', (packed.MAX_LENGTH - 3,)),
        ('packed', ()),
      )
    }


@pytest.mark.parametrize('kind', ['bucketed', 'packed'])
def test_loss_gradients_and_logits_are_those_of_padded_examples(both, kind):
  value, grads, logits = both['padded']
  got_value, got_grads, got_logits = both[kind]
  np.testing.assert_allclose(got_value, value, rtol=1e-12)
  for name, expected in logits.items():
    assert expected.shape == got_logits[name].shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got_logits[name], expected, atol=1e-12 * scale)
  largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(grads))
  chex.assert_trees_all_close(got_grads, grads, rtol=0, atol=1e-12 * largest)
  assert largest > 0.01


@pytest.mark.slow
def test_an_unrolled_model_in_float32_with_examples_that_fill_their_row():
  features = packed.make_features('spans')
  assert features.lengths().max() == features.max_length
  model = packed.make_model('spans')
  params = packed.make_params(model)
  expected, grads, logits = packed.run(
    'spans', model, params, features, 'padded'
  )
  unrolled = packed.make_model('spans', layers='loop')
  got = packed.run('spans', unrolled, params, features, 'packed')
  np.testing.assert_allclose(got[0], expected, rtol=1e-5)
  for name, value in logits.items():
    scale = np.abs(value).max()
    np.testing.assert_allclose(got[2][name], value, atol=1e-5 * scale)
  largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(grads))
  chex.assert_trees_all_close(got[1], grads, rtol=0, atol=1e-5 * largest)


def packed_inputs(head='tags'):
  features = packed.make_features(head, count=18, seed=2)
  batch, placement = packed.batch_of(features, 'packed')
  return train_step.model_inputs(batch), placement


def test_an_example_sees_nothing_of_its_neighbours():
  model = packed.make_model('tags')
  params = packed.make_params(model)
  inputs, placement = packed_inputs()
  row = int(np.bincount(placement.rows).argmax())
  segment = inputs['segment_ids'] == 2
  segment[np.arange(len(segment)) != row] = False
  assert (inputs['segment_ids'][row] > 2).any()
  other = {
    **inputs,
    'input_ids': np.where(
      segment, 31 - inputs['input_ids'], inputs['input_ids']
    ),
    'token_type_ids': np.where(segment, 1, inputs['token_type_ids']),
  }
  apply = jax.jit(lambda inputs: model.apply({'params': params}, **inputs))
  before, after = (np.asarray(apply(x).logits) for x in (inputs, other))
  others = ~segment & (inputs['segment_ids'] > 0)
  np.testing.assert_array_equal(before[others], after[others])
  assert np.abs(before[segment] - after[segment]).max() > 1e-3


@pytest.mark.slow
def test_word_vectors_may_be_given_and_masks_of_every_kind_combine():
  model = models.MobileBertModel(packed.CONFIG)
  params = packed.make_params(model)
  inputs, _ = packed_inputs('classification')
  apply = jax.jit(lambda inputs: model.apply({'params': params}, **inputs))
  expected = apply(inputs)
  table = params['embeddings']['word_embeddings']['embedding']
  ids, mask = inputs['input_ids'], inputs['attention_mask']
  rest = {k: v for k, v in inputs.items() if k != 'input_ids'}
  mask4 = np.broadcast_to(
    mask[:, None, None], (len(ids), 1, ids.shape[1], ids.shape[1])
  )
  for change in (
    {'attention_mask': mask},
    {'attention_mask': mask4[:, 0]},
    {'attention_mask': mask4 > 0},
    {'attention_mask': np.where(mask4 > 0, 0, -np.inf).astype(np.float32)},
  ):
    got = apply({**rest, 'inputs_embeds': table[ids], **change})
    chex.assert_trees_all_close(
      got.pooler_output, expected.pooler_output, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
  ('head', 'change', 'words'),
  [
    ('classification', {'cls_positions': None}, 'need.*cls_positions|without'),
    ('tags', {'segment_ids': None}, 'without segment_ids'),
    ('tags', {'segment_ids': np.ones((2, 3), np.int32)}, r'shape \(2, 3\)'),
    (
      'next_sentence', {'cls_positions': np.zeros((1, 2), np.int32)},
      r'shape \(1, 2\)',
    ),
    (
      'choice', {'cls_positions': np.zeros((2, 2), np.int32)},
      'needs .rows, examples, choices',
    ),
  ],
)  # fmt: skip
def test_wrong_segments_are_refused(head, change, words):
  model = packed.make_model(head)
  inputs, _ = packed_inputs(head)
  params = models.abstract_params(model)
  with pytest.raises(InputError, match=words):
    jax.eval_shape(
      lambda params: model.apply({'params': params}, **{**inputs, **change}),
      params,
    )
