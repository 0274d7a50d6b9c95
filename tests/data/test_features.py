import dataclasses

import chex
import numpy as np
import pytest

from mobilebert_jax.data.batching import features as features_lib
from mobilebert_jax.runtime.errors import InputError


def make(rows, choices=None, max_length=100, **scalars):
  ids = features_lib.Ragged.from_rows(rows)
  types = features_lib.Ragged.from_rows([[1] * len(row) for row in rows])
  return features_lib.Features(
    sequences={'input_ids': ids, 'token_type_ids': types},
    scalars={k: np.asarray(v) for k, v in scalars.items()},
    pad={'input_ids': 7, 'token_type_ids': 0},
    choices=choices,
    max_length=max_length,
  )


def test_batch_pads_masks_and_weighs():
  features = make([[1, 2, 3], [], [4]], labels=np.array([0, 1, 2], np.int32))
  batch = features.batch(np.array([2, 0, 1]), length=4, real=2)
  chex.assert_trees_all_equal(
    batch,
    {
      'input_ids': np.array(
        [[4, 7, 7, 7], [1, 2, 3, 7], [7, 7, 7, 7]], np.int32
      ),
      'token_type_ids': np.array(
        [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], np.int32
      ),
      'attention_mask': np.array(
        [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], np.int32
      ),
      'labels': np.array([2, 0, 1], np.int32),
      'weights': np.array([1, 1, 0], np.float32),
    },
  )
  for name, value in batch.items():
    assert value.dtype == (np.float32 if name == 'weights' else np.int32), name


def test_only_empty_rows_are_padding():
  batch = make([[], []]).batch(np.array([0, 1]), length=2)
  chex.assert_trees_all_equal(batch['input_ids'], np.full((2, 2), 7, np.int32))
  assert not batch['attention_mask'].any()


def test_a_regression_label_keeps_its_type():
  batch = make([[1]], labels=np.array([2.5], np.float32)).batch(
    np.array([0]), length=1
  )
  assert batch['labels'].dtype == np.float32


def test_choices_are_an_axis_of_the_batch():
  features = make([[1], [2, 2], [3], [4, 4, 4]], choices=2, labels=[0, 1])
  assert len(features) == 2
  chex.assert_trees_all_equal(features.lengths(), np.array([2, 3]))
  batch = features.batch(np.array([1, 0]), length=3)
  chex.assert_trees_all_equal(
    batch['input_ids'],
    np.array([[[3, 7, 7], [4, 4, 4]], [[1, 7, 7], [2, 2, 7]]], np.int32),
  )
  chex.assert_shape(batch['attention_mask'], (2, 2, 3))
  chex.assert_shape(batch['weights'], (2,))


def test_columns_that_disagree_are_refused():
  ids = features_lib.Ragged.from_rows([[1, 2], [3]])
  with pytest.raises(ValueError, match='rows of other lengths'):
    features_lib.Features(
      {'input_ids': ids, 'labels': features_lib.Ragged.from_rows([[1], [3]])},
      {},
      {'input_ids': 0, 'labels': -100},
      max_length=2,
    )
  with pytest.raises(ValueError, match='no padding value'):
    features_lib.Features({'input_ids': ids}, {}, {}, max_length=2)
  with pytest.raises(ValueError, match='has 1 values for 2'):
    make([[1], [2]], labels=[0])
  with pytest.raises(ValueError, match='not 2 each'):
    make([[1], [2], [3]], choices=2)
  with pytest.raises(ValueError, match='more than 2 tokens'):
    make([[1], [2, 3, 4]], max_length=2)


@pytest.mark.parametrize(
  ('longest', 'max_length', 'expected'),
  [
    (3, 100, (8,)),
    (15, 100, (16,)),
    (16, 100, (16, 24)),
    (16, 16, (16,)),
    (70, 100, (16, 32, 64, 72)),
    (72, 100, (16, 32, 64, 80)),
    (72, 75, (16, 32, 64, 75)),
  ],
)
def test_buckets_end_behind_the_longest_example(longest, max_length, expected):
  features = make([[1] * longest, [1]], max_length=max_length)
  assert features_lib.resolve_buckets(features) == expected


def test_given_buckets_are_sorted_and_must_hold_every_example():
  features = make([[1] * 20])
  assert features_lib.resolve_buckets(features, (32, 16, 32)) == (16, 32)
  with pytest.raises(
    InputError, match=r'ends at 16 but the longest.*20 tokens.*at least 21'
  ):
    features_lib.resolve_buckets(features, (8, 16))


def test_a_bucket_keeps_a_pad_position_unless_the_example_is_full():
  with pytest.raises(InputError, match=r'needs a \[PAD\].*at least 21'):
    features_lib.resolve_buckets(make([[1] * 20]), (20,))
  full = make([[1] * 20], max_length=20)
  assert features_lib.resolve_buckets(full, (20,)) == (20,)
  with pytest.raises(InputError, match='use buckets of at most 20'):
    features_lib.resolve_buckets(full, (20, 24))


def masked(columns, rows, seed, epoch):
  """Every token becomes seed, epoch and the example's number."""
  ids = columns['input_ids']
  values = np.repeat(100 * seed + 10 * epoch + rows, ids.lengths())
  return {
    **columns,
    'input_ids': dataclasses.replace(ids, values=values.astype(np.int32)),
    'labels': ids,
  }


def test_a_transform_changes_and_adds_columns():
  features = dataclasses.replace(
    make([[1, 2], [3], [4, 5]]),
    pad={'input_ids': 7, 'token_type_ids': 0, 'labels': -100},
    transform=masked,
  )
  batch = features.batch(np.array([2, 1]), length=3, seed=3, epoch=1)
  chex.assert_trees_all_equal(
    (batch['input_ids'], batch['labels']),
    (
      np.array([[312, 312, 7], [311, 7, 7]], np.int32),
      np.array([[4, 5, -100], [3, -100, -100]], np.int32),
    ),
  )
  assert (
    features.columns(np.array([2]))['input_ids'].values.tolist() == [-8] * 2
  )
  wrong = dataclasses.replace(
    make([[1, 2]]),
    transform=lambda columns, *_: {
      **columns,
      'token_type_ids': features_lib.Ragged.from_rows([[1]]),
    },
  )
  with pytest.raises(ValueError, match='rows of other lengths'):
    wrong.batch(np.array([0]), length=3)


def test_scalars_may_be_rows_of_numbers():
  features = make([[1], [2]], choice_mask=np.array([[1, 1], [1, 0]]))
  batch = features.batch(np.array([1, 0]), length=2)
  chex.assert_trees_all_equal(batch['choice_mask'], np.array([[1, 0], [1, 1]]))


def test_the_smallest_bucket_that_holds_a_row():
  assert features_lib.bucket_of(16, (16, 32)) == 16
  assert features_lib.bucket_of(17, (16, 32)) == 32
