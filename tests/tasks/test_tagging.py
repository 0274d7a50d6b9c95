"""From words to rows of tokens, and from rows back to tags of words."""

import numpy as np
import pytest

from mobilebert_jax.config.task_options import TaggingOptions
from mobilebert_jax.data.batching.features import Ragged
from mobilebert_jax.data.readers.conll import Sentence, read_sentences
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tasks.tagging import task as tagging_task
from mobilebert_jax.tasks.tagging import windows as tagging_windows
from mobilebert_jax.tasks.task import Splits
from tests.support import batching_runs
from tests.support.squad_files import tokenizer as spelling_tokenizer

LABELS = ('O', 'B-x', 'I-x', 'B-yy', 'I-yy')
CLS, SEP = 2, 3
# A variation selector, of which the tokenizer leaves nothing.
NOTHING = '\ufe0f'


@pytest.fixture(scope='module')
def tokenizer():
  return spelling_tokenizer()


def sentence(*pairs, before=()):
  words, tags = zip(*(pair.split('/') for pair in pairs))
  lines = tuple(f'{w} {t}' for w, t in zip(words, tags))
  return Sentence(words, tags, lines, before)


def make(**options):
  return tagging_task.tagging_task(
    'tags',
    labels=LABELS,
    options=TaggingOptions(**options),
    load=lambda data, split: (),
    splits=Splits(test=()),
  )


def rows(features, column):
  ragged: Ragged = features.sequences[column]
  return [
    ragged.values[a:b].tolist()
    for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:])
  ]


def perfect(features, labels=LABELS):
  """Logits whose maxima are the labels, and O where there is none."""
  width = int(features.lengths().max())
  logits = np.zeros((len(features), width, len(labels)), np.float32)
  for row, values in enumerate(rows(features, 'labels')):
    for place, label in enumerate(values):
      logits[row, place, max(label, 0)] = 1
  return {'logits': logits}


def random_sentences(count, seed=0):
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    words = [
      NOTHING if rng.random() < 0.1 else 'a' * int(rng.integers(1, 5))
      for _ in range(rng.integers(1, 25))
    ]
    tags = iob.to_iob2([str(t) for t in rng.choice(LABELS, len(words))])
    found.append(sentence(*(f'{w}/{t}' for w, t in zip(words, tags))))
  return found


def test_the_first_token_of_a_word_is_labelled(tokenizer):
  features = make().encode([sentence('ab/B-x', 'c/I-x', 'd/O')], tokenizer, 9)
  (ids,) = rows(features, 'input_ids')
  assert (ids[0], ids[-1], len(ids)) == (CLS, SEP, 6)
  assert tokenizer.decode(ids[1:-1]) == 'ab c d'
  assert rows(features, 'labels') == [[-100, 1, -100, 2, 0, -100]]
  assert rows(features, 'words') == [[-1, 0, -1, 1, 2, -1]]
  assert features.pad['labels'] == -100 and features.pad['words'] == -1


def test_all_tokens_of_a_word_are_labelled(tokenizer):
  task = make(label_all_subtokens=True)
  features = task.encode([sentence('abc/B-x', 'de/O', 'f/B-yy')], tokenizer, 9)
  assert rows(features, 'labels') == [[-100, 1, 2, 2, 0, 0, 3, -100]]
  assert rows(features, 'words') == [[-1, 0, -1, -1, 1, -1, 2, -1]]


def test_all_tokens_need_the_tag_of_a_continuation(tokenizer):
  task = tagging_task.tagging_task(
    'tags',
    labels=('O', 'B-x'),
    options=TaggingOptions(label_all_subtokens=True),
    load=lambda data, split: (),
  )
  with pytest.raises(InputError, match=r'needs the tag I-x .*options\.labels'):
    task.encode([sentence('ab/B-x')], tokenizer, 9)


def test_iob1_is_learnt_as_iob2_and_written_as_iob1(tokenizer, tmp_path):
  task = make(scheme='IOB1')
  examples = [sentence('a/I-x', 'b/I-x', 'c/B-x', 'd/I-yy')]
  features = task.encode(examples, tokenizer, 9)
  assert rows(features, 'labels') == [[-100, 1, 2, 1, 3, -100]]
  predictions = perfect(features)
  assert task.score(predictions, examples, features)['f1'] == 1.0
  path = task.write_predictions(tmp_path, 's', predictions, examples, features)
  assert path.read_text().split('\n')[2] == 'c B-x B-x'


def test_words_without_tokens_are_outside(tokenizer):
  task = make()
  examples = [
    sentence(f'{NOTHING}/B-x', 'a/I-x'),
    sentence(f'{NOTHING}/O'),
    sentence('b/B-x', f'{NOTHING}/O'),
  ]
  features = task.encode(examples, tokenizer, 9)
  assert rows(features, 'words') == [[-1, 1, -1], [-1, 3, -1]]
  tags = tagging_task.predicted_tags(
    LABELS, 'IOB2', perfect(features), examples, features
  )
  assert tags == [['O', 'I-x'], ['O'], ['B-x', 'O']]
  with pytest.raises(InputError, match='no token of any sentence'):
    task.encode(examples[1:2], tokenizer, 9)


def test_splitting_at_the_borders_of_words():
  split = tagging_windows.split_words
  assert split([1, 1, 1], 3, 0) == [range(3)]
  assert split([2, 2, 2], 5, 0) == [range(2), range(2, 3)]
  assert split([1] * 6, 4, 2) == [range(4), range(2, 6)]
  assert split([3, 1, 4, 1], 5, 3) == [range(2), range(1, 3), range(3, 4)]
  assert split([0, 0], 5, 3) == [range(2)]
  assert split([5, 0, 5], 5, 4) == [range(2), range(1, 3)]


def test_the_window_with_more_context_decides():
  lengths = [1] * 8
  windows = tagging_windows.split_words(lengths, 6, 4)
  assert windows == [range(6), range(2, 8)]
  found = tagging_windows.deciders(lengths, windows)
  assert found.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
  ('max_length', 'stride'),
  [(3, 0), (6, 0), (6, 1), (6, 3), (10, 0), (10, 3), (10, 7), (40, 7)],
)
def test_long_sentences_are_split_and_put_together(
  tokenizer, max_length, stride
):
  """Every word with tokens is decided once, whatever the windows are."""
  examples = random_sentences(40)
  task = make(stride=stride)
  features = task.encode(examples, tokenizer, max_length)
  assert features.lengths().max() <= max_length
  assert all(max(words) >= 0 for words in rows(features, 'words'))
  decided = [w for row in rows(features, 'words') for w in row if w >= 0]
  words = [word for example in examples for word in example.words]
  present = [i for i, word in enumerate(words) if word != NOTHING]
  assert sorted(decided) == present
  labels = [x for row in rows(features, 'labels') for x in row if x >= 0]
  assert len(labels) == len(present)
  tags = tagging_task.predicted_tags(
    LABELS, 'IOB2', perfect(features), examples, features
  )
  for example, found in zip(examples, tags, strict=True):
    expected = [
      'O' if word == NOTHING else tag
      for word, tag in zip(example.words, example.tags, strict=True)
    ]
    assert found == expected


def test_windows_overlap_by_the_stride(tokenizer):
  examples = [sentence(*(f'{c}/O' for c in 'abcdefgh'))]
  features = make(stride=2).encode(examples, tokenizer, 6)
  texts = [tokenizer.decode(ids[1:-1]) for ids in rows(features, 'input_ids')]
  assert texts == ['a b c d', 'c d e f', 'e f g h']
  assert rows(features, 'words') == [
    [-1, 0, 1, 2, -1, -1],
    [-1, -1, 3, 4, -1, -1],
    [-1, -1, 5, 6, 7, -1],
  ]


def test_a_word_longer_than_a_row_is_cut(tokenizer):
  examples = [sentence('a/O', f'{"b" * 50}/B-x', 'c/I-x')]
  features = make().encode(examples, tokenizer, 8)
  assert [len(ids) for ids in rows(features, 'input_ids')] == [3, 8, 3]
  tags = tagging_task.predicted_tags(
    LABELS, 'IOB2', perfect(features), examples, features
  )
  assert tags == [['O', 'B-x', 'I-x']]


def test_lengths_that_leave_no_room(tokenizer):
  with pytest.raises(InputError, match=r'max_length is 2, .* use at least 3'):
    make().encode([sentence('a/O')], tokenizer, 2)
  with pytest.raises(InputError, match=r'stride is 6, .*room for 6'):
    make(stride=6).encode([sentence('a/O')], tokenizer, 8)


def test_scores_outcomes_and_files(tokenizer, tmp_path):
  task = make()
  examples = [
    sentence('a/B-x', 'b/I-x', 'c/O', 'd/B-yy'),
    sentence('e/O', 'f/B-x', before=('',)),
  ]
  features = task.encode(examples, tokenizer, 9)
  predictions = perfect(features)
  # The second x is missed, and yy is found where nothing is: an I- alone.
  predictions['logits'][1, 2] = [1, 0, 0, 0, 0]
  predictions['logits'][1, 1] = [0, 0, 0, 0, 1]
  scores = task.score(predictions, examples, features)
  assert scores == pytest.approx(
    {
      'precision': 1.0, 'recall': 2 / 3, 'f1': 0.8,
      'conlleval_f1': 2 / 3, 'accuracy': 4 / 6,
    },
    abs=1e-9,
  )  # fmt: skip
  right, wrong = task.outcomes(predictions, examples, features)
  assert right.text == 'a b c d' and right.is_right and right.error == 0
  assert right.expected == right.predicted == 'a b (x), d (yy)'
  assert (wrong.expected, wrong.predicted) == ('f (x)', 'no entity')
  assert not wrong.is_right and wrong.error == 1
  path = task.write_predictions(tmp_path, 'v', predictions, examples, features)
  assert path == tmp_path / 'v.conll'
  assert path.read_text().split('\n') == [
    'a B-x B-x', 'b I-x I-x', 'c O O', 'd B-yy B-yy', '', 'e O I-yy',
    'f B-x O', '', '',
  ]  # fmt: skip
  table = (tmp_path / 'v_types.txt').read_text().split('\n')
  assert table[0].split() == ['type', 'precision', 'recall', 'f1', 'entities']
  assert table[1].split() == ['x', '1.0000', '0.5000', '0.6667', '2']
  assert table[3].split() == ['all', '1.0000', '0.6667', '0.8000', '3']
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'v.conll',
    'v_types.txt',
  ]


def test_written_predictions_are_read_back(tokenizer, tmp_path):
  task = make(stride=1)
  rng = np.random.default_rng(3)
  source = tmp_path / 'source'
  source.write_text(
    '\n\n'.join('\n'.join(s.lines) for s in random_sentences(20)) + '\n'
  )
  examples = tuple(read_sentences(source))
  features = task.encode(examples, tokenizer, 8)
  width = int(features.lengths().max())
  predictions = {'logits': rng.normal(size=(len(features), width, 5))}
  path = task.write_predictions(tmp_path, 'v', predictions, examples, features)
  again = tuple(read_sentences(path))
  assert [s.words for s in again] == [s.words for s in examples]
  assert [list(s.tags) for s in again] == tagging_task.predicted_tags(
    LABELS, 'IOB2', predictions, examples, features
  )
  gold = [[line.split(' ')[1] for line in s.lines] for s in again]
  assert gold == [list(s.tags) for s in examples]


@pytest.mark.slow
def test_batches_do_not_change_loss_scores_or_logits(tokenizer):
  examples = random_sentences(30, seed=5)
  scores = batching_runs.check(make(stride=2), examples, tokenizer, 16)
  assert 0 < scores['validation/accuracy'] < 1
