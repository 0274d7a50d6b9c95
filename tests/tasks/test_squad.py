"""SQuAD's tasks: answers, scores, files, the loss, and a whole run."""

import json
import string
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import losses as losses_task
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import NullSpanOptions, SpanOptions
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.metrics import squad
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.squad import answers, windows
from tests.support import one_device, squad_files
from tests.support.squad_files import TEXT

LENGTH = 70
# No two spans of it have the same text.
SIGNS = ' '.join([*string.ascii_lowercase, *string.digits, *string.punctuation])
CUT = {'doc_stride': 17, 'max_query_length': 20}


def examples(with_null=False):
  records = squad_files.v2() if with_null else squad_files.v1()
  records = [(record, TEXT) for record in records]
  # A text of one window, and one of several.
  for id_, context, text in (('s', 'It was he.', 'he'), ('m', SIGNS, 'q r')):
    known = squad_files.answer(text, context)
    impossible = False if with_null else None
    record = squad_files.question(id_, 'Who?', known, impossible=impossible)
    records.append((record, context))
  return [
    Question(
      record['id'],
      record['question'],
      context,
      tuple(Answer(a['text'], a['answer_start']) for a in record['answers']),
    )
    for record, context in records
  ]


def encode(asked, options):
  return windows.encode(options, asked, squad_files.tokenizer(), LENGTH)


def logits(features, seed=0):
  """Random logits, as long as a batch and zero behind each row."""
  rng = np.random.default_rng(seed)
  lengths = features.sequences['input_ids'].lengths()
  inside = np.arange(LENGTH + 2) < lengths[:, None]
  return {
    f'{side}_logits': np.where(
      inside, 3 * rng.standard_normal(inside.shape), 0
    ).astype(np.float32)
    for side in ('start', 'end')
  }


def by_hand(example, number, features, predictions, longest):
  """Every allowed span of a question: score to text, and the null score."""
  found, null = [], []
  starts, ends = predictions['start_logits'], predictions['end_logits']
  for row in np.flatnonzero(features.scalars['example'] == number):
    first, last = features.sequences['input_ids'].offsets[row : row + 2]
    begins, stops = (
      features.sequences[name].values[first:last]
      for name in (windows.BEGINS, windows.ENDS)
    )
    null.append(float(starts[row, 0]) + float(ends[row, 0]))
    for i in range(last - first):
      for j in range(i, min(i + longest, last - first)):
        if begins[i] >= 0 and stops[j] >= 0:
          score = float(starts[row, i]) + float(ends[row, j])
          found.append((score, example.context[begins[i] : stops[j]]))
  return sorted(found, reverse=True), min(null)


@pytest.mark.parametrize('count', [1, 5, 20])
def test_answers_are_the_best_of_all_windows(count):
  options = SpanOptions(**CUT, max_answer_length=6)
  asked = examples(with_null=True)
  features = encode(asked, options)
  assert len(features) > 2 * len(asked)
  predictions = logits(features)
  found = answers.find(options, predictions, asked, features, count)
  assert len(found) == len(asked)
  for number, (example, one) in enumerate(zip(asked, found)):
    every, null = by_hand(example, number, features, predictions, 6)
    # The best score of each text.
    best = {text: score for score, text in reversed(every)}
    expected = sorted(best.items(), key=lambda item: -item[1])[:count]
    got = [(span.text, span.score) for span in one.spans]
    # From each window come `count` spans, some with the same text perhaps,
    # so that only where all texts differ the whole list is known.
    assert got[0] == expected[0]
    assert len({text for text, _ in got}) == len(got)
    assert [score for _, score in got] == sorted(dict(got).values())[::-1]
    assert set(got) <= set(best.items())
    if example.context == SIGNS:
      assert got == expected
    assert one.null.score == null
    assert one.null_odds == null - expected[0][1]


def test_a_text_without_tokens_has_no_answer():
  example = Question('q', 'Who?', '\x07', (Answer('\x07', 0),))
  options = NullSpanOptions(**CUT)
  features = encode([example], options)
  predictions = logits(features)
  (found,) = answers.find(options, predictions, [example], features, 3)
  assert found.spans == ()
  assert (found.best.text, found.null_odds) == ('', 0.0)


def task(name, **options):
  return TASKS[name].make_task({**CUT, **options}, DataConfig())


def confident(features, asked, strength=20.0):
  """Logits that are sure of the targets, and of [CLS] without an answer."""
  predictions = logits(features)
  rows = np.arange(len(features))
  for side in ('start', 'end'):
    positions = features.scalars[f'{side}_positions']
    predictions[f'{side}_logits'][rows, positions] += strength
  return predictions


def test_right_logits_score_one():
  asked = examples()
  record = task('squad_v1')
  features = encode(asked, SpanOptions(**CUT))
  scores = record.score(confident(features, asked), asked, features)
  # 'Normandy' and such are no part of another word here.
  assert scores == {'exact_match': 1.0, 'f1': 1.0}
  assert record.score(logits(features), asked, features)['f1'] < 0.8
  told = record.outcomes(confident(features, asked), asked, features)
  assert all(one.is_right and one.error == 0 for one in told)
  assert told[0].expected == 'France / in France'
  assert told[0].predicted == 'France'
  assert told[0].text.startswith('Where is Normandy? | ...')
  assert 'a region in France. They' in told[0].text


def test_version_2_chooses_the_threshold():
  asked = examples(with_null=True)
  record = task('squad_v2')
  features = encode(asked, NullSpanOptions(**CUT))
  predictions = confident(features, asked)
  scores = record.score(predictions, asked, features)
  assert scores['exact'] == scores['f1'] == scores['best_f1'] == 1.0
  assert scores['NoAns_exact'] == scores['HasAns_f1'] == 1.0
  told = record.outcomes(predictions, asked, features)
  assert told[4].expected == told[4].predicted == '(no answer)'
  never = task('squad_v2', null_score_threshold=1e9)
  always = task('squad_v2', null_score_threshold=-1e9)
  assert never.score(predictions, asked, features)['NoAns_f1'] == 0
  all_null = always.score(predictions, asked, features)
  assert all_null['HasAns_f1'] == 0 and all_null['NoAns_f1'] == 1
  # What is best does not depend on what was chosen.
  assert all_null['best_f1'] == 1.0


def test_unknown_answers_are_not_scored():
  asked = [Question('q', 'Where?', TEXT)]
  record = task('squad_v2')
  features = encode(asked, NullSpanOptions(**CUT))
  with pytest.raises(InputError, match="'q' has no known answers"):
    record.score(logits(features), asked, features)


def load(path):
  return json.loads(path.read_text(encoding='utf-8'))


def test_files_of_version_1(tmp_path):
  asked = examples()
  features = encode(asked, SpanOptions(**CUT))
  predictions = logits(features)
  record = task('squad_v1', n_best=4)
  path = record.write_predictions(
    tmp_path, 'validation', predictions, asked, features
  )
  assert path == tmp_path / 'predictions.json'
  names = {file.name for file in tmp_path.iterdir()}
  assert names == {'predictions.json', 'nbest_predictions.json'}
  given, nbest = load(path), load(tmp_path / 'nbest_predictions.json')
  assert list(given) == list(nbest) == [example.id for example in asked]
  for id_, entries in nbest.items():
    assert len(entries) == 4
    assert given[id_] == entries[0]['text'] != ''
    total = [entry['start_logit'] + entry['end_logit'] for entry in entries]
    assert total == sorted(total, reverse=True)
    softmax = np.exp(total) / np.sum(np.exp(total))
    shares = [entry['probability'] for entry in entries]
    np.testing.assert_allclose(shares, softmax, rtol=1e-12)
  # They score what training says.
  scores = squad.scores_v1(
    list(given.values()), [[a.text for a in e.answers] for e in asked]
  )
  assert record.score(predictions, asked, features) == scores


@pytest.mark.parametrize('threshold', [None, 0.0])
def test_files_of_version_2(tmp_path, threshold):
  asked = examples(with_null=True)
  features = encode(asked, NullSpanOptions(**CUT))
  predictions = logits(features)
  record = task('squad_v2', null_score_threshold=threshold, n_best=3)
  path = record.write_predictions(
    tmp_path, 'other', predictions, asked, features
  )
  assert path == tmp_path / 'other_predictions.json'
  given = load(path)
  nbest = load(tmp_path / 'other_nbest_predictions.json')
  odds = load(tmp_path / 'other_null_odds.json')
  assert len(list(tmp_path.iterdir())) == 3
  scores = record.score(predictions, asked, features)
  limit = scores['best_f1_thresh'] if threshold is None else threshold
  for example in asked:
    entries = nbest[example.id]
    texts = [entry['text'] for entry in entries]
    # No answer is always listed, at its place or behind the best 3.
    assert texts.count('') == 1 and len(texts) in (3, 4)
    best, null = (
      next(e for e in entries if bool(e['text']) == has_text)
      for has_text in (True, False)
    )
    assert odds[example.id] == pytest.approx(
      null['start_logit'] + null['end_logit']
      - best['start_logit'] - best['end_logit']
    )  # fmt: skip
    wanted = '' if odds[example.id] > limit else best['text']
    assert given[example.id] == wanted
  golds = [[a.text for a in e.answers] for e in asked]
  exact, shared = squad.raw_scores_v2(list(given.values()), golds)
  assert scores['exact'] == pytest.approx(exact.mean())
  assert scores['f1'] == pytest.approx(shared.mean())


def test_without_known_answers_the_threshold_is_zero(tmp_path):
  asked = [Question('q', 'Where?', TEXT)]
  features = encode(asked, NullSpanOptions(**CUT))
  predictions = logits(features)
  record = task('squad_v2')
  for bonus, expected in ((50.0, True), (-50.0, False)):
    shifted = {k: v.copy() for k, v in predictions.items()}
    shifted['start_logits'][:, 0] += bonus
    path = record.write_predictions(
      tmp_path, 'validation', shifted, asked, features
    )
    assert (load(path)['q'] == '') == expected


def test_the_loss_sees_tokens_alone():
  features = encode(examples(with_null=True), NullSpanOptions(**CUT))
  rows = np.arange(4)
  batch = features.batch(rows, LENGTH, real=3)
  predictions = logits(features)
  outputs = types.SimpleNamespace(
    **{k: jnp.asarray(v[rows, :LENGTH] + 1) for k, v in predictions.items()}
  )
  record = task('squad_v2')
  terms = record.loss(outputs, {k: jnp.asarray(v) for k, v in batch.items()})
  lengths = features.lengths()
  expected = 0.0
  for side in ('start', 'end'):
    for row in range(3):
      real = predictions[f'{side}_logits'][row, : lengths[row]].astype(float)
      target = batch[f'{side}_positions'][row]
      expected += (np.logaddexp.reduce(real) - real[target]) / 3 / 2
  assert float(losses_task.total(terms)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
  ('name', 'field', 'value'),
  [
    ('squad_v1', 'doc_stride', 0),
    ('squad_v1', 'n_best', '3'),
    ('squad_v1', 'null_score_threshold', 0.0),
    ('squad_v2', 'null_score_threshold', float('nan')),
    ('squad_v2', 'max_answer_length', None),
  ],
)
def test_wrong_options(name, field, value):
  with pytest.raises(InputError, match=field):
    task(name, **{field: value})


CONFIG = """
from mobilebert_jax import config


def get_config(variant=''):
  return config.config_dict(
    task='squad_v2',
    data={'source': 'files', 'path': %(data)r, 'max_length': 64,
          'batching': 'packed'},
    options={'doc_stride': 20, 'max_query_length': 16},
    tokenizer=%(vocab)r,
    model={
      'hidden_size': 16, 'intra_bottleneck_size': 16, 'embedding_size': 16,
      'num_hidden_layers': 1, 'num_attention_heads': 1,
      'intermediate_size': 16, 'num_feedforward_networks': 1,
      'max_position_embeddings': 64, 'normalization_type': 'layer_norm',
      'attention_probs_dropout_prob': 0.0,
    },
    optimizer={'learning_rate': 1e-2},
    batch_size=8, eval_batch_size=8, num_steps=4,
  )
"""


@pytest.mark.slow
def test_a_run_with_packed_rows(tmp_path, capsys):
  from mobilebert_jax.config import configure
  from mobilebert_jax.training import loop, scoring

  data = squad_files.write(tmp_path / 'squad', '2.0', squad_files.v2())
  vocab = squad_files.tokenizer().get_vocab()
  (tmp_path / 'vocab.txt').write_text('\n'.join(vocab) + '\n')
  file = tmp_path / 'tiny.py'
  file.write_text(
    CONFIG % {'data': str(data), 'vocab': str(tmp_path / 'vocab.txt')}
  )
  settings = configure(file)
  workdir = tmp_path / 'run'
  with one_device.used():
    results = loop.train(settings, workdir)
    again = scoring.score(settings, workdir)
  assert results['final']['validation/best_f1'] >= 1 / 5
  given = load(workdir / 'predictions' / 'predictions.json')
  assert list(given) == ['q1', 'q2', 'q3', 'q4', 'q5']
  assert (workdir / 'predictions' / 'null_odds.json').exists()
  for name, value in results['final'].items():
    assert again[name] == value
  assert 'squad_v2: validation/f1 went from' in capsys.readouterr().out
