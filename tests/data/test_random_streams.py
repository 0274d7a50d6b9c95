"""The words that a seed gives: fixed for ever, whatever code asks for them.

The numbers were taken from the code before its streams were put into one
place; runs, prepared data sets and what is held out depend on them.
"""

import numpy as np
import pytest

from mobilebert_jax.data import random_streams
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.examples import sequences
from mobilebert_jax.data.examples.masking import Masking
from mobilebert_jax.data.random_streams import Draws, Stream, hash_rank, philox
from mobilebert_jax.data.readers.documents import Document, hold_out
from mobilebert_jax.tasks import entailment
from mobilebert_jax.tasks.pretraining.next_sentence import make_pairs


def test_every_use_has_a_stream_of_its_own():
  words = {int(philox(stream, 7).random_raw()) for stream in Stream}
  assert len(words) == len(Stream) == 6
  assert list(Stream) == list(range(6))


@pytest.mark.parametrize(
  ('by_length', 'plan'),
  [
    (False, [[6, 7, 8], [4, 0, 1], [5, 3, 9]]),
    (True, [[8, 4, 6], [9, 7, 0], [3, 5, 1]]),
  ],
)
def test_batches(by_length, plan):
  lengths = np.array([5, 3, 9, 1, 7, 2, 8, 4, 6, 3])
  drawn = loader.batch_plan(lengths, 3, seed=7, epoch=2, by_length=by_length)
  assert drawn.tolist() == plan


def test_permutation():
  drawn = random_streams.permutation_at(np.arange(10), 1000, seed=7, epoch=2)
  expected = [637, 352, 711, 186, 608, 665, 929, 465, 546, 606]
  assert drawn.tolist() == expected


def test_draws():
  draws = Draws(Stream.SEQUENCES, 7, 1, 2, 3)
  assert [draws.word() for _ in range(3)] == [
    6462271520704552635,
    9219504992653411876,
    10939468715374893972,
  ]
  assert draws.below(100) == 71
  assert draws.chance(0.5) is True
  assert draws.heads(70) == 37


@pytest.mark.parametrize(
  ('epoch', 'masked', 'replaced'),
  [
    (-1, [13, 14, 15, 17, 18, 21], {17: 4, 18: 15, 13: 4, 14: 4, 15: 4, 21: 4}),
    (2, [2, 3, 4, 7, 13, 18], {2: 4, 3: 4, 4: 4, 7: 4, 13: 4, 18: 21}),
  ],
)
def test_masking(epoch, masked, replaced):
  is_special = np.arange(50) < 5
  masking = Masking(4, is_special, tuple(map(str, range(50))), probability=0.3)
  ids = np.arange(3, 25, dtype=np.int32)
  seen, labels = masking(ids, seed=7, epoch=epoch, row=11)
  expected = ids.copy()
  for place, token in replaced.items():
    expected[place] = token
  np.testing.assert_array_equal(seen, expected)
  assert np.flatnonzero(labels != -100).tolist() == masked
  np.testing.assert_array_equal(labels[masked], ids[masked])


def test_sentence_pairs():
  documents = [Document(f'd{i}', '') for i in range(4)]
  segments = [[f'{i}{j}' for j in range(4)] for i in range(4)]
  pairs = make_pairs(documents, segments, seed=7)
  assert ' '.join(pair.pair for pair in pairs) == (
    '22 11 20 11 12 13 21 22 32 31 32 02'
  )
  assert [pair.label for pair in pairs] == [1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
  ('next_sentence', 'rows'),
  [
    (
      True,
      [
        [0, 3, 15, 24, 1, 0],
        [3, 12, 12, 13, 0, 0],
        [14, 20, 20, 26, 0, 0],
        [27, 33, 33, 39, 0, 0],
      ],
    ),
    (
      False,
      [
        [0, 13, 0, 0, 0, 0],
        [13, 26, 0, 0, 0, 0],
        [26, 33, 0, 0, 0, 0],
        [33, 40, 0, 0, 0, 0],
      ],
    ),
  ],
)
def test_sequences(next_sentence, rows):
  text = sequences.TokenisedText(
    np.arange(40, dtype=np.int32),
    np.array([0, 3, 7, 12, 13, 20, 26, 33, 40]),
    np.array([0, 4, 6, 8]),
  )
  layout = sequences.Layout(15, next_sentence, 0.3)
  drawn = sequences.draw(text, layout, seed=7, stream=3, repeat=1)
  assert drawn.tolist() == rows


def test_shuffle():
  rows = np.arange(48).reshape(8, 6)
  order = sequences.shuffled(rows, seed=7, stream=3)[:, 0]
  assert order.tolist() == [24, 6, 42, 30, 12, 0, 36, 18]


def test_what_is_held_out():
  documents = [Document(f'a.txt:{i}', 'x' * 10) for i in range(10)]
  held = hold_out(documents, 0.3)[1]
  assert [d.id for d in held] == ['a.txt:1', 'a.txt:4', 'a.txt:7']
  rows = sorted(range(10), key=lambda i: hash_rank(str(i)))
  assert rows == [9, 8, 4, 3, 0, 1, 7, 2, 6, 5]
  files = sorted((f'{i}.tfrecord' for i in range(8)), key=hash_rank)
  assert ''.join(name[0] for name in files) == '23175640'


def test_generated_sentences():
  premises = [pair.premise for pair in entailment.generate('train', 3)]
  assert premises == [
    'Peter resides in London now.',
    'Maria still acts as a baker now.',
    'Peter drives a red car today.',
  ]
