import chex
import numpy as np
import pytest

from mobilebert_jax.data import features as features_lib
from mobilebert_jax.errors import InputError


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
    )
  with pytest.raises(ValueError, match='no padding value'):
    features_lib.Features({'input_ids': ids}, {}, {})
  with pytest.raises(ValueError, match='has 1 values for 2'):
    make([[1], [2]], labels=[0])
  with pytest.raises(ValueError, match='not 2 each'):
    make([[1], [2], [3]], choices=2)


@pytest.mark.parametrize(
  ('longest', 'expected'),
  [(3, (8,)), (16, (16,)), (17, (16, 24)), (70, (16, 32, 64, 72))],
)
def test_buckets_end_at_the_longest_example(longest, expected):
  features = make([[1] * longest, [1]])
  assert features_lib.resolve_buckets(features) == expected


def test_given_buckets_are_sorted_and_must_hold_every_example():
  features = make([[1] * 20])
  assert features_lib.resolve_buckets(features, (32, 16, 32)) == (16, 32)
  with pytest.raises(
    InputError, match=r'ends at 16 but the longest.*20 tokens'
  ):
    features_lib.resolve_buckets(features, (8, 16))


def test_the_smallest_bucket_that_holds_a_row():
  assert features_lib.bucket_of(16, (16, 32)) == 16
  assert features_lib.bucket_of(17, (16, 32)) == 32
