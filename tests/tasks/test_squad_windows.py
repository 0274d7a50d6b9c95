"""Texts cut into windows, and the answers' places in them."""

import time

import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.config.task_options import SpanOptions
from mobilebert_jax.data.readers import squad
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.squad import windows
from tests.support import squad_files
from tests.support.squad_files import TEXT


def asked(text='France', words='Where is Normandy?', context=TEXT, id_='q'):
  answers = () if text is None else (Answer(text, context.index(text)),)
  return Question(id_, words, context, answers)


def encode(examples, max_length, tokenizer=None, **options):
  return windows.encode(
    SpanOptions(**options),
    examples,
    tokenizer or squad_files.tokenizer(),
    max_length,
  )


def rows(features, name):
  column = features.sequences[name]
  return [
    column.values[a:b].tolist()
    for a, b in zip(column.offsets, column.offsets[1:])
  ]


@pytest.mark.parametrize(
  ('max_length', 'stride'), [(60, 1), (60, 13), (64, 30), (400, 128)]
)
def test_windows_are_the_parts_that_the_tokenizer_cuts(max_length, stride):
  tokenizer = squad_files.tokenizer()
  example = asked()
  features = encode(
    [example], max_length, doc_stride=stride, max_query_length=20
  )
  size = len(tokenizer(example.question, add_special_tokens=False).input_ids)
  room = max_length - size - 3
  parts = tokenizer(
    [example.question],
    [TEXT],
    truncation='only_second',
    max_length=max_length,
    # The tokenizer's stride is the overlap.
    stride=max(0, room - stride),
    return_overflowing_tokens=True,
    return_offsets_mapping=True,
  )
  assert len(features) == len(parts['input_ids'])
  assert len(features) > 1 or max_length == 400
  assert rows(features, 'input_ids') == parts['input_ids']
  assert rows(features, 'token_type_ids') == parts['token_type_ids']
  for part, (begins, ends) in enumerate(
    zip(rows(features, windows.BEGINS), rows(features, windows.ENDS))
  ):
    inside = [i == 1 for i in parts.sequence_ids(part)]
    assert [end >= 0 for end in ends] == inside
    offsets = parts['offset_mapping'][part]
    for token, (begin, end) in enumerate(zip(begins, ends)):
      if end >= 0:
        assert end == offsets[token][1]
        assert begin in (-1, offsets[token][0])


@pytest.mark.parametrize(
  ('length', 'room', 'stride', 'expected'),
  [
    (0, 5, 3, [(0, 0)]),
    (5, 5, 3, [(0, 5)]),
    (6, 5, 3, [(0, 5), (3, 6)]),
    (8, 5, 3, [(0, 5), (3, 8)]),
    (9, 5, 3, [(0, 5), (3, 8), (6, 9)]),
    # No token is left out, however large the stride.
    (9, 4, 100, [(0, 4), (4, 8), (8, 9)]),
  ],
)
def test_cut(length, room, stride, expected):
  assert windows.cut(length, room, stride) == expected


@pytest.mark.parametrize('seed', range(5))
def test_each_token_has_its_fullest_window(seed):
  rng = np.random.default_rng(seed)
  room, stride = int(rng.integers(2, 20)), int(rng.integers(1, 12))
  cut = windows.cut(int(rng.integers(1, 90)), room, stride)
  found = windows.has_max_context(cut)
  for token in range(cut[-1][1]):
    scores = [
      min(token - a, b - 1 - token) + 0.01 * (b - a) if a <= token < b else -1
      for a, b in cut
    ]
    here = [
      bool(mask[token - a]) if a <= token < b else False
      for mask, (a, b) in zip(found, cut)
    ]
    # Exactly one, and the first of the best.
    assert here.index(True) == scores.index(max(scores))
    assert here.count(True) == 1


def targets(features):
  return list(
    zip(
      features.scalars['start_positions'].tolist(),
      features.scalars['end_positions'].tolist(),
    )
  )


def decoded(features, context):
  """The characters under the targets; None where the target is [CLS]."""
  found = []
  ends = rows(features, windows.ENDS)
  encoded = squad_files.tokenizer()(
    context, add_special_tokens=False, return_offsets_mapping=True
  )
  offsets = encoded['offset_mapping']
  begins_of = {end: begin for begin, end in offsets}
  for (start, end), row in zip(targets(features), ends):
    if (start, end) == (0, 0):
      found.append(None)
    else:
      found.append(context[begins_of[row[start]] : row[end]])
  return found


def test_targets_are_the_answers_tokens():
  text = '10th and 11th centuries'
  features = encode([asked(text)], 400)
  assert decoded(features, TEXT) == [text]
  # Tokens of whole words, not of letters: the answer is within them.
  features = encode([asked('Normand', context='In Normandy!')], 100)
  assert decoded(features, 'In Normandy!') == ['Normand']


def test_windows_without_the_whole_answer_point_to_cls():
  text = '10th and 11th centuries'
  features = encode([asked(text)], 60, doc_stride=9, max_query_length=20)
  found = decoded(features, TEXT)
  assert set(found) == {text, None}
  ids = rows(features, 'input_ids')
  cls = squad_files.tokenizer().cls_token_id
  assert all(row[0] == cls for row in ids)


def test_no_answer_points_to_cls():
  features = encode([asked(None), asked('Rollo')], 400)
  assert targets(features)[0] == (0, 0)
  assert targets(features)[1] != (0, 0)
  assert features.scalars[windows.EXAMPLE].tolist() == [0, 1]


def test_an_answer_without_a_token_points_to_cls():
  # A control character: the tokenizer drops it.
  context = 'what \x07 is it'
  example = Question('q', 'what?', context, (Answer('\x07', 5),))
  assert example.span() == (5, 6)
  assert targets(encode([example], 100)) == [(0, 0)]


def test_unknown_answers_have_no_targets():
  example = Question('q', 'Where?', TEXT)
  features = encode([example, asked()], 400)
  assert list(features.scalars) == [windows.EXAMPLE]


def test_long_questions_are_cut():
  words = 'where ' * 40
  features = encode([asked(words=words)], 60, max_query_length=7)
  tokenizer = squad_files.tokenizer()
  kept = tokenizer(words, add_special_tokens=False).input_ids[:7]
  for row in rows(features, 'input_ids'):
    assert row[1:9] == [*kept, tokenizer.sep_token_id]
    assert len(row) <= 60


def test_no_room_for_the_text():
  with pytest.raises(InputError, match=r'max_length is 67, .* at least 68'):
    encode([asked()], 67)
  assert len(encode([asked()], 68)) > 1


def test_progress_is_told():
  told = []
  windows.encode(
    SpanOptions(),
    [asked(id_=str(i)) for i in range(1500)],
    squad_files.tokenizer(),
    400,
    progress=lambda done, of: told.append((done, of)),
  )
  assert told == [(1000, 1500), (1500, 1500)]


@pytest.mark.slow
def test_a_text_of_a_megabyte():
  context = 'word ' * 200_000 + 'the end.'
  started = time.monotonic()
  features = encode([asked('the end', context=context)], 384, doc_stride=128)
  assert time.monotonic() - started < 30
  # Each letter is a token: 800,000 and more.
  assert len(features) > 6000
  assert sum(target != (0, 0) for target in targets(features)) >= 1
  shown = np.sum(features.sequences[windows.BEGINS].values >= 0)
  assert shown == 4 * 200_000 + len('theend.')


@pytest.mark.data
def test_real_answers_decode_to_themselves(shared_data):
  """The characters under the targets are the answer, within its words."""
  tokenizer = mb.MobileBertTokenizerFast(shared_data / 'vocab' / 'vocab.txt')
  path = shared_data / 'squad' / 'cs224n-dev-v2.0.json'
  examples = list(squad.read_file(path, with_null=True))[::6]
  features = encode(examples, 384, tokenizer)
  begins = rows(features, windows.BEGINS)
  ends = rows(features, windows.ENDS)
  exact = found = 0
  for number, (start, end), row in zip(
    features.scalars[windows.EXAMPLE], targets(features), range(len(features))
  ):
    example = examples[number]
    if not example.answers:
      assert (start, end) == (0, 0)
      continue
    if (start, end) == (0, 0) or begins[row][start] < 0:
      continue
    text = example.context[begins[row][start] : ends[row][end]]
    gold = example.answers[0].text
    # A token may be longer than the answer: 'Normandy' in 'Normandy's'.
    assert gold in text and len(text) <= len(gold) + 12
    exact += text == gold
    found += 1
  answerable = sum(bool(example.answers) for example in examples)
  assert found >= 0.99 * answerable
  assert exact >= 0.98 * found


@pytest.mark.slow
@pytest.mark.data
def test_as_many_windows_as_run_squad_makes(shared_data):
  """Its loop over a text, counted on dev questions at 384 and 128."""
  tokenizer = mb.MobileBertTokenizerFast(shared_data / 'vocab' / 'vocab.txt')
  path = squad.find_file(shared_data, 'dev-v1.1')
  examples = list(squad.read_file(path, with_null=False))[::4]
  texts = list(dict.fromkeys(e.context for e in examples))
  sizes = {
    text: len(ids)
    for text, ids in zip(
      texts, tokenizer(texts, add_special_tokens=False)['input_ids']
    )
  }
  questions = tokenizer(
    [e.question for e in examples], add_special_tokens=False
  )['input_ids']
  count = 0
  for example, asked_ids in zip(examples, questions):
    room, start = 384 - 3 - min(64, len(asked_ids)), 0
    while True:
      count += 1
      if start + room >= sizes[example.context]:
        break
      start += min(128, room)
  assert len(encode(examples, 384, tokenizer)) == count > len(examples)
