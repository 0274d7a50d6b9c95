import numpy as np
import pytest

from mobilebert_jax.data.batching.features import EVALUATION, Ragged
from mobilebert_jax.data.examples.masking import Masking, MaskSequences
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import tiny

CLS, SEP, MASK = 2, 3, 4
WORDS = [f'w{i}' for i in range(90)]
PIECES = [f'##p{i}' for i in range(10)]
SPECIALS = len(tiny.SPECIAL)
FIRST_PIECE = SPECIALS + len(WORDS)


@pytest.fixture(scope='module')
def tokenizer():
  return MobileBertTokenizerFast([*tiny.SPECIAL, *WORDS, *PIECES])


def sequence(length, pieces=0.0, seed=0):
  """Random words between [CLS] and [SEP], some with continuations."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(SPECIALS, FIRST_PIECE, length)
  is_piece = rng.random(length) < pieces
  ids[is_piece] = rng.integers(FIRST_PIECE, FIRST_PIECE + 10, is_piece.sum())
  ids[0] = SPECIALS
  return np.array([CLS, *ids, SEP], np.int32)


def within(count, total, share, sigmas=4.0):
  """Whether a count is within so many deviations of a binomial's mean."""
  deviation = np.sqrt(total * share * (1 - share))
  return abs(count - total * share) <= sigmas * deviation


def test_eighty_ten_ten(tokenizer):
  masking = Masking.of(tokenizer)
  ids = sequence(100)
  seen, labels = (
    np.array(part)
    for part in zip(*(masking(ids, 0, epoch, 7) for epoch in range(1000)))
  )
  chosen = labels != -100
  assert (chosen.sum(axis=1) == 15).all()
  assert (labels[chosen] == np.broadcast_to(ids, labels.shape)[chosen]).all()
  assert (seen[~chosen] == np.broadcast_to(ids, seen.shape)[~chosen]).all()
  total = chosen.sum()
  is_mask = seen[chosen] == MASK
  same = seen[chosen] == labels[chosen]
  assert within(is_mask.sum(), total, 0.8)
  # A random token is the old one once in a hundred draws.
  assert within(same.sum(), total, 0.1 + 0.1 / 100)
  others = seen[chosen][~is_mask & ~same]
  assert within(len(others), total, 0.1 * 99 / 100)
  # Every token that is not special is drawn about equally often.
  drawn = np.bincount(others, minlength=SPECIALS + 100)
  assert not drawn[:SPECIALS].any()
  assert all(within(n, len(others), 0.01, sigmas=5) for n in drawn[SPECIALS:])
  # Every place is chosen about equally often, never [CLS] or [SEP].
  places = chosen.sum(axis=0)
  assert places[0] == places[-1] == 0
  assert all(within(n, 1000, 0.15, sigmas=4.5) for n in places[1:-1])


def test_special_tokens_are_never_chosen(tokenizer):
  ids = sequence(40)
  ids[3], ids[9], ids[20] = 1, MASK, SEP
  masking = Masking.of(tokenizer, probability=0.99)
  for row in range(50):
    _, labels = masking(ids, 0, 0, row)
    assert not set(labels) & set(range(SPECIALS))
    assert (labels != -100).sum() == round(0.99 * 37)


def test_the_result_depends_on_seed_epoch_and_row_alone(tokenizer):
  masking = Masking.of(tokenizer)
  ids = sequence(100)
  base = masking(ids, 5, 2, 9)
  again = Masking.of(tokenizer)(ids.copy(), 5, 2, 9)
  assert all(np.array_equal(a, b) for a, b in zip(base, again))
  for other in ((6, 2, 9), (5, 3, 9), (5, EVALUATION, 9), (5, 2, 10)):
    assert not np.array_equal(base[1], masking(ids, *other)[1]), other


def words_of(ids):
  """(begin, end) of each word between [CLS] and [SEP]."""
  starts = [i for i in range(1, len(ids) - 1) if ids[i] < FIRST_PIECE]
  return list(zip(starts, [*starts[1:], len(ids) - 1]))


def test_whole_words_stay_whole(tokenizer):
  masking = Masking.of(tokenizer, whole_word=True)
  pieces = Masking.of(tokenizer)
  broken = total = 0
  for row in range(200):
    ids = sequence(80, pieces=0.4, seed=row)
    _, labels = masking(ids, 0, 0, row)
    chosen = labels != -100
    assert 1 <= chosen.sum() <= 12
    total += chosen.sum()
    for begin, end in words_of(ids):
      assert chosen[begin:end].all() or not chosen[begin:end].any()
    alone = pieces(ids, 0, 0, row)[1] != -100
    broken += any(
      alone[b:e].any() and not alone[b:e].all() for b, e in words_of(ids)
    )
  # Nearly all of the 15% are used, and without the option words break.
  assert total > 0.97 * 200 * 12
  assert broken > 150


def test_a_word_behind_a_special_token_begins_anew(tokenizer):
  """A sequence may begin inside of a word that was cut."""
  masking = Masking.of(tokenizer, whole_word=True)
  ids = np.array([CLS, FIRST_PIECE, FIRST_PIECE, 1, FIRST_PIECE, 9, SEP])
  words = masking._words(ids, np.array([1, 2, 4, 5]))
  assert [list(word) for word in words] == [[1, 2], [4], [5]]


def test_limits_of_the_number_of_predictions(tokenizer):
  ids = sequence(100)
  for most, expected in ((5, 5), (40, 15)):
    _, labels = Masking.of(tokenizer, most=most)(ids, 0, 0, 0)
    assert (labels != -100).sum() == expected
  # At least one, of however few.
  _, labels = Masking.of(tokenizer)(sequence(1), 0, 0, 0)
  assert (labels != -100).sum() == 1
  # A single word of three pieces: whole, unless that is more than allowed.
  word = np.array([CLS, SPECIALS, FIRST_PIECE, FIRST_PIECE, SEP], np.int32)
  for most, expected in ((None, 3), (3, 3), (2, 0)):
    masking = Masking.of(tokenizer, whole_word=True, most=most)
    assert (masking(word, 0, 0, 0)[1] != -100).sum() == expected


def test_nothing_to_mask(tokenizer):
  ids = np.array([CLS, 1, SEP], np.int32)
  seen, labels = Masking.of(tokenizer)(ids, 0, 0, 0)
  assert np.array_equal(seen, ids)
  assert (labels == -100).all()


def test_masks_do_not_depend_on_the_batch(tokenizer):
  transform = MaskSequences(Masking.of(tokenizer))
  rows = [sequence(n, seed=n) for n in (5, 30, 12, 100)]

  def masked(indices):
    chosen = [rows[i] for i in indices]
    columns = {
      'input_ids': Ragged.from_rows(chosen),
      'token_type_ids': Ragged.from_rows([[0] * len(r) for r in chosen]),
    }
    found = transform(columns, np.array(indices), 3, 1)
    assert found.keys() == {*columns, 'labels'}
    return {
      index: [
        found[name].values[slice(*found[name].offsets[i : i + 2])].tolist()
        for name in ('input_ids', 'labels')
      ]
      for i, index in enumerate(indices)
    }

  together = masked([0, 1, 2, 3])
  assert masked([3, 1]) == {i: together[i] for i in (3, 1)}
  assert masked([2]) == {2: together[2]}
