"""Which part of a text goes into which sequence."""

import numpy as np
import pytest

from mobilebert_jax.data.examples import sequences
from mobilebert_jax.data.examples.sequences import (
  Layout,
  TokenisedText,
  tokenise,
)
from mobilebert_jax.data.random_streams import Draws, Stream
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.runtime.errors import InputError
from tests.support import pretraining_text


def text_of(lengths):
  """Documents of sentences with these numbers of tokens, counted through."""
  sizes = [size for document in lengths for size in document]
  return TokenisedText(
    np.arange(sum(sizes), dtype=np.int32),
    np.concatenate([[0], np.cumsum(sizes)]),
    np.concatenate([[0], np.cumsum([len(d) for d in lengths])]),
  )


def random_text(documents, seed=0):
  rng = np.random.default_rng(seed)
  return text_of(
    [rng.integers(1, 30, rng.integers(1, 40)) for _ in range(documents)]
  )


def owner(text, place):
  """The document of a token."""
  sentence = np.searchsorted(text.sentences, place, side='right') - 1
  return np.searchsorted(text.documents, sentence, side='right') - 1


def test_pairs_fill_sequences_and_follow_the_coin():
  text = random_text(200)
  layout = Layout(64, True, 0.0)
  found = sequences.draw(text, layout, seed=1)
  a, a_end, b, b_end, is_random, is_forced = found.T
  assert (is_random >= is_forced).all()
  assert (a_end > a).all() and (b_end > b).all()
  sizes = a_end - a + b_end - b
  assert sizes.max() == 61 and np.median(sizes) > 45
  assert (owner(text, a) == owner(text, a_end - 1)).all()
  assert (owner(text, b) == owner(text, b_end - 1)).all()
  is_same = owner(text, a) == owner(text, b)
  np.testing.assert_array_equal(is_same, is_random == 0)
  # What follows does so, but for tokens that were cut between the two.
  follows = is_random == 0
  assert (b[follows] >= a_end[follows]).all()
  uncut = follows & (sizes < 61)
  assert uncut.sum() > 50
  assert (b[uncut] == a_end[uncut]).all()
  # All documents and all places in them are drawn from.
  assert len(set(owner(text, b[is_random == 1]))) > 190


@pytest.mark.parametrize('sizes', ['equal', 'of a book'])
def test_half_of_the_pairs_are_random(sizes):
  """To 0.7 points, which are four standard deviations of 100,000 coins.

  But for those whose A is a sentence alone: its pair must be random. Books have
  such: their sentences have 20 tokens on average, and some have 60.
  """
  rng = np.random.default_rng(0)
  drawn = (
    np.full((1000, 400), 12)
    if sizes == 'equal'
    else np.ceil(rng.exponential(20, (1000, 300))).astype(int)
  )
  text = text_of(drawn)
  found = sequences.draw(text, Layout(64, True, 0.1), seed=0)
  is_random, is_forced = found[:, 4], found[:, 5]
  assert (is_forced == 0).sum() > 90_000
  assert abs(is_random[is_forced == 0].mean() - 0.5) < 0.007
  assert is_random[is_forced == 1].all()
  if sizes == 'of a book':
    assert is_forced.mean() > 0.05
  else:
    assert is_forced.mean() < 0.03


def test_a_sentence_alone_has_a_random_partner():
  text = text_of([[5]] * 9)
  found = sequences.draw(text, Layout(16, True, 0.0), seed=0)
  assert len(found) == 9 and found[:, 4:].all()
  assert (owner(text, found[:, 0]) == np.arange(9)).all()
  assert (owner(text, found[:, 2]) != np.arange(9)).all()
  # One that is longer than a sequence is alone; with others it need not be.
  text = text_of([[20, 5, 5, 20]] * 90)
  found = sequences.draw(text, Layout(16, True, 0.0), seed=0)
  is_long = np.isin(found[:, 0] % 50, np.arange(20))
  assert found[is_long, 5].all()
  middle = (found[:, 0] % 50 == 20) & (found[:, 1] % 50 == 25)
  assert middle.sum() > 9 and not found[middle, 5].any()


def test_sentences_that_b_replaced_are_used_again():
  """Every sentence of every document is in some A or true B."""
  text = random_text(50)
  layout = Layout(512, True, 0.0)
  seen = np.zeros(len(text.tokens), bool)
  for row in sequences.draw(text, layout, 3).tolist():
    a, a_end, b, b_end, is_random, _ = row
    seen[a:a_end] = True
    if not is_random:
      seen[b:b_end] = True
  first_tokens = text.sentences[:-1]
  assert seen[first_tokens].mean() > 0.97


def test_tokens_are_cut_from_front_and_back_of_the_longer_side():
  draws = Draws(Stream.SEQUENCES, 0)
  fronts = []
  for _ in range(2000):
    a, a_end, b, b_end = sequences._cut(0, 50, 100, 120, 30, draws)
    assert a_end - a == 15 and b_end - b == 15
    fronts.append(a)
  # 35 fair coins each.
  assert abs(np.mean(fronts) - 17.5) < 4 * np.sqrt(35 / 4 / 2000)
  assert abs(np.var(fronts) - 35 / 4) < 1
  assert sequences._cut(0, 50, 100, 103, 30, draws)[2:] == (100, 103)
  # Equal sides: B loses one first.
  a, a_end, b, b_end = sequences._cut(0, 10, 20, 30, 19, draws)
  assert (a_end - a, b_end - b) == (10, 9)
  assert sequences._cut(0, 10, 20, 25, 15, draws) == (0, 10, 20, 25)


@pytest.mark.parametrize('short', [0.0, 0.5])
def test_segments_lose_no_token_and_cross_no_document(short):
  text = random_text(50)
  found = sequences.draw(text, Layout(20, False, short), seed=0)
  a, a_end = found[:, 0], found[:, 1]
  assert (found[:, 2:] == 0).all()
  np.testing.assert_array_equal(a[1:], a_end[:-1])
  assert a[0] == 0 and a_end[-1] == len(text.tokens)
  assert (a_end - a).max() <= 18
  assert (owner(text, a) == owner(text, a_end - 1)).all()
  # A sentence is cut only if it is longer than a sequence.
  if not short:
    cut = ~np.isin(a_end, text.sentences)
    assert ((a_end - a)[cut] == 18).all()


def test_short_sequences_are_as_many_as_asked_for():
  text = text_of([[1] * 4000] * 10)
  found = sequences.draw(text, Layout(102, False, 0.1), seed=0)
  sizes = found[:, 1] - found[:, 0]
  ends = text.sentences[text.documents[1:]]
  sizes = sizes[~np.isin(found[:, 1], ends)]
  share = (sizes < 100).mean()
  # A 99th of the random lengths is the full one.
  expected = 0.1 * 98 / 99
  assert abs(share - expected) < 4 * np.sqrt(0.09 / len(sizes))
  assert sizes.min() >= 2 and abs(sizes[sizes < 100].mean() - 50) < 12


def test_sequences_depend_on_their_arguments_alone():
  text = random_text(20)
  layout = Layout(32, True, 0.1)
  first = sequences.draw(text, layout, 1, 2, 3)
  np.testing.assert_array_equal(first, sequences.draw(text, layout, 1, 2, 3))
  for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
    assert not np.array_equal(first, sequences.draw(text, layout, *other))
  mixed = sequences.shuffled(first, 1, 2)
  assert sorted(mixed.tolist()) == sorted(first.tolist())
  assert not np.array_equal(mixed, first)


def test_a_pair_is_framed():
  ids, types = sequences.frame((0, 2, 5, 8, 1, 0), np.arange(10) + 100, 1, 2)
  assert ids.tolist() == [1, 100, 101, 2, 105, 106, 107, 2]
  assert types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
  ids, types = sequences.frame((3, 5, 0, 0, 0, 0), np.arange(10) + 100, 1, 2)
  assert ids.tolist() == [1, 103, 104, 2] and not types.any()


def test_too_little_for_a_pair():
  with pytest.raises(InputError, match=r'needs two documents.* has 1'):
    sequences.draw(text_of([[3, 4]]), Layout(16, True, 0.0), 0)
  with pytest.raises(InputError, match=r'max_length is 4.* at least 5'):
    sequences.draw(text_of([[3], [4]]), Layout(4, True, 0.0), 0)


def test_text_without_tokens_leaves_no_trace():
  """Also what looks like a special token is text."""
  tokenizer = pretraining_text.tokenizer()
  made = [
    Document('a', '\u200b\u200b'),
    Document('b', 'W1 w2. \x01 W3.'),
    Document('c', ''),
    Document('d', '[SEP] w4'),
  ]
  text = tokenise(made, tokenizer, 'marks')
  assert len(text) == 2
  assert text.documents.tolist()[-1] == len(text.sentences) - 1
  tokens = tokenizer.convert_ids_to_tokens(text.tokens.tolist())
  assert tokens[:5] == ['w1', 'w2', '.', 'w3', '.']
  assert '[SEP]' not in tokens and tokens[-1] == 'w4'
  is_special = np.zeros(len(tokenizer), bool)
  is_special[text.tokens[-4:-1]] = True
  kept = sequences.learnable(
    np.array(
      [[0, 2, 0, 0, 0, 0], [5, 7, 0, 0, 0, 0], [5, 6, 0, 1, 0, 0]]
    ),
    text.tokens, is_special,
  )  # fmt: skip
  assert kept[:, 0].tolist() == [0, 5]
