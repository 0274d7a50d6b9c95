"""Labels at their positions alone: nothing lost, in as few places as proven."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import losses
from mobilebert_jax.data.batching import loader, token_cache
from mobilebert_jax.data.batching.features import Features, Gathered, Ragged
from mobilebert_jax.data.examples.masking import (
  Masking,
  MaskSequences,
  gathered_labels,
)
from mobilebert_jax.models import packing
from mobilebert_jax.tasks.pretraining import masked_lm
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import train_step
from tests.support import packed, tiny

CLS, SEP, FIRST = 2, 3, len(tiny.SPECIAL)
LONGEST = packed.MAX_LENGTH
SETTINGS = (
  {}, {'most': 2}, {'probability': 0.5}, {'whole_word': True},
  {'whole_word': True, 'most': 4},
)  # fmt: skip
WORDS = [*(f'w{i}' for i in range(17)), *(f'##p{i}' for i in range(10))]


@pytest.fixture(scope='module')
def tokenizer():
  return MobileBertTokenizerFast([*tiny.SPECIAL, *WORDS])


def make_features(tokenizer, count=40, seed=0, **settings):
  """Short and long sequences of words and pieces, masked anew each epoch."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, LONGEST - 1, count)
  lengths[::2] = rng.integers(1, 4, len(lengths[::2]))
  lengths[0] = LONGEST - 2
  rows = [
    [CLS, *rng.integers(FIRST, FIRST + len(WORDS), n), SEP] for n in lengths
  ]
  ids = Ragged.from_rows(rows)
  masking = Masking.of(tokenizer, **settings)
  return Features(
    {'input_ids': ids},
    {'document': np.arange(count, dtype=np.int32)},
    {'input_ids': 0, 'labels': losses.IGNORE_INDEX},
    max_length=LONGEST,
    transform=MaskSequences(masking),
    gather=gathered_labels(masking, LONGEST, 2),
  )


def spread(batch):
  """The labels where they belong, [B, S]."""
  labels = np.full(batch['input_ids'].shape, losses.IGNORE_INDEX)
  rows, nth = np.nonzero(batch['labels'] != losses.IGNORE_INDEX)
  labels[rows, batch['masked_positions'][rows, nth]] = batch['labels'][
    rows, nth
  ]
  return labels


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@pytest.mark.parametrize('batching', ['padded', 'bucketed', 'packed'])
def test_a_batch_has_the_labels_of_one_that_is_not_gathered(
  tokenizer, batching, settings
):
  features = make_features(tokenizer, **settings)
  plain = dataclasses.replace(features, gather=None)
  shapes = {}

  def batches(of):
    steps = loader.train_iterator(
      of, batch_size=8, num_steps=10, seed=3, batching=batching
    )
    whole = loader.eval_batches(of, batch_size=7, batching=batching)
    return itertools.chain(steps, (batch for batch, _ in whole))

  for few, whole in zip(batches(features), batches(plain), strict=True):
    np.testing.assert_array_equal(spread(few), whole['labels'])
    assert (whole['labels'] != losses.IGNORE_INDEX).any()
    assert few['labels'].dtype == few['masked_positions'].dtype == np.int32
    # A shape follows from the length of the rows.
    width = few['labels'].shape[1]
    assert shapes.setdefault(few['input_ids'].shape[1], width) == width
    for name in whole.keys() - {'labels'}:
      np.testing.assert_array_equal(few[name], whole[name])


def test_the_width_of_a_row_is_what_its_best_filling_has():
  """Every way to fill a row, one by one, has no more; one has as many."""
  for most in ((0, 0, 0, 1, 1, 1, 2, 2, 3), (0, 0, 0, 1, 2, 3, 4, 5, 6)):
    gather = Gathered(most)
    longest = len(most) - 1
    sizes = {n: min(n + 1, longest) for n in range(1, longest + 1)}

    def best(room, most=most, sizes=sizes):
      return max(
        (most[n] + best(room - size) for n, size in sizes.items()
         if size <= room),
        default=0,
      )  # fmt: skip

    for length in range(longest, 15):
      assert gather.packed_width(length) == best(length)
    assert [gather.width(n) for n in range(longest + 1)] == list(most)


def test_widths_at_the_size_of_pre_training(tokenizer):
  def widths(length, **settings):
    gather = gathered_labels(Masking.of(tokenizer, **settings), length, 2)
    return gather.width(length), gather.packed_width(length)

  # [CLS], a word, [SEP], [PAD]: one prediction in every four positions.
  assert widths(512, most=20) == (20, 128)
  assert widths(128) == (19, 32)
  # Nothing but one word: 100 pieces of it are predicted together.
  assert widths(512, whole_word=True)[0] == 100
  assert widths(512, whole_word=True, most=20)[0] == 20


def test_as_many_as_possible_are_predicted_and_never_more(tokenizer):
  """The widths hold for a row that is a single word."""
  pieces = range(FIRST + 17, FIRST + 27)
  for settings in SETTINGS:
    masking = Masking.of(tokenizer, **settings)
    for count in (1, 3, 6, 7, 20, 99, 100, 101, 150):
      word = [FIRST, *itertools.islice(itertools.cycle(pieces), count - 1)]
      for ids in ([CLS, *word, SEP], [CLS, *[FIRST] * count, SEP]):
        ids = np.array(ids, np.int32)
        labels = [masking(ids, 0, 0, row)[1] for row in range(5)]
        found = max((row != losses.IGNORE_INDEX).sum() for row in labels)
        assert found <= masking.limit(count)
        if not settings.get('whole_word'):
          assert found == masking.limit(count)


def test_more_labels_than_places_are_a_defect_of_the_encoder():
  gather = Gathered((0, 0, 1))
  labels = np.array([[5, 6], [-100, -100]])
  with pytest.raises(ValueError, match='2 labels in a row that has 1 places'):
    gather.gather(labels, -100, gather.width(2))
  with pytest.raises(ValueError, match='no fewer'):
    Gathered((0, 2, 1))
  with pytest.raises(ValueError, match='a sequence column without choices'):
    dataclasses.replace(packed.make_features('choice'), gather=gather)


def test_features_from_disk_are_gathered_alike(tokenizer, tmp_path):
  features = make_features(tokenizer)
  path = tmp_path / 'a.npz'
  token_cache.save(path, 'a', features)
  found = token_cache.load(path, 'a', lambda: features.transform)
  assert found.gather == features.gather


def test_loss_and_predictions_do_not_depend_on_the_way_of_batching(tokenizer):
  """Weights of a packed row's labels; predictions stand at their tokens."""
  features = make_features(tokenizer, probability=0.3)
  model = packed.make_model('masked_lm')
  params = packed.make_params(model)

  @jax.jit
  def run(batch):
    seen = packing.per_example(batch)
    outputs = model.apply({'params': params}, **train_step.model_inputs(batch))
    kept = masked_lm.predict(outputs, seen)
    return kept, losses.total(masked_lm.loss(outputs, seen))

  found = {}
  for batching, of in (
    ('padded', dataclasses.replace(features, gather=None)),
    ('padded gathered', features),
    ('packed', features),
  ):
    batch, placement = packed.batch_of(of, batching.split()[0])
    # Examples count unequally, in any row they may be in.
    shape = batch['weights'].shape
    weights = np.zeros(shape).reshape(-1)
    index = placement.rows * placement.slots_per_row + placement.slots
    weights[index] = 1 + placement.examples % 3
    kept, loss = run({**batch, 'weights': jnp.float32(weights.reshape(shape))})
    cut = packed.by_example({'token_logits': kept['nll']}, placement, features)
    counts = packed.by_example(
      {'token_logits': kept['counts']}, placement, features
    )
    found[batching] = (loss, cut['token_logits'], counts['token_logits'])
  loss, nll, counts = found.pop('padded')
  assert counts.sum() > 60
  for other_loss, other_nll, other_counts in found.values():
    assert float(other_loss) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(other_nll, nll, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(other_counts, counts)
