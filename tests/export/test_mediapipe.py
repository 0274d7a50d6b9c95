"""Files in MediaPipe's classifier and the Task Library's question answerer."""

import contextlib
import json
import os
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from mobilebert_jax.export import litert_tools, mediapipe_tokenizer
from mobilebert_jax.inference import folding, graph, quantization, ranges
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import served
from tests.support.mediapipe_texts import (
  DIFFERENT,
  SAME,
  VOCABULARY,
  make_texts,
)

pytestmark = pytest.mark.clients
for _package in ('litert_converter', 'ai_edge_quantizer', 'flatbuffers'):
  pytest.importorskip(_package, reason='writes the files')
# Here, behind the check that they can be imported.
from mobilebert_jax.export import litert  # noqa: E402
from mobilebert_jax.export import mediapipe as export_mediapipe  # noqa: E402

LABELS = ['bad', 'so so', 'good']
CLASSIFIER = 'MobileBertForSequenceClassification'
ANSWERER = 'MobileBertForQuestionAnswering'


@pytest.fixture(scope='module')
def tokenizer():
  return MobileBertTokenizerFast(VOCABULARY)


def make(head, **changes):
  return served.make(
    head, dtype='float32', vocab_size=len(VOCABULARY),
    max_position_embeddings=384, **changes,
  )  # fmt: skip


def fold(head, **changes):
  model, params = make(head, **changes)
  return folding.fold(head, model.config, params)


@pytest.fixture(scope='module')
def classifier(tokenizer):
  """A model that gives different texts different labels."""
  model, params = make(CLASSIFIER, num_labels=3)
  head = params['classifier']
  head['kernel'] = 8 * head['kernel']
  batch = tokenizer(make_texts(30), padding=True, return_tensors='np')
  logits = model.apply({'params': params}, **batch).logits
  head['bias'] = head['bias'] - np.asarray(logits).mean(0)
  return model, params


def save(classifier, tokenizer, path, length, **options):
  model, params = classifier
  folded = folding.fold(CLASSIFIER, model.config, params)
  export_mediapipe.save_classifier(
    folded, path, length, tokenizer, LABELS, **options
  )
  return folded


@contextlib.contextmanager
def client_of(path):
  """MediaPipe's own classifier of a file: scores by label, for a text."""
  tasks = pytest.importorskip('mediapipe.tasks.python.text', reason='a client')
  with tasks.TextClassifier.create_from_model_path(str(path)) as classifier:

    def classify(text):
      [head] = classifier.classify(text).classifications
      return {
        category.category_name: category.score for category in head.categories
      }

    yield classify


def as_labels(probabilities):
  return dict(zip(LABELS, probabilities.tolist(), strict=True))


def largest_difference(scores, wanted):
  assert {*scores} == {*wanted}
  return max(abs(scores[label] - wanted[label]) for label in wanted)


def best(scores):
  return max(scores, key=scores.__getitem__)


@pytest.mark.parametrize('length', [32, 128, 384])
def test_the_classifier_gives_our_labels_and_scores(
  classifier, tokenizer, length, tmp_path
):
  path = tmp_path / 'model.tflite'
  save(classifier, tokenizer, path, length)
  model, params = classifier
  texts = make_texts(100)
  assert not any(mediapipe_tokenizer.differs(tokenizer, x) for x in texts)
  batch = tokenizer(
    texts,
    padding='max_length',
    truncation=True,
    max_length=length,
    return_tensors='np',
  )
  used = batch['attention_mask'].sum(1)
  # From an empty text to one that is cut, except in the longest file.
  assert used.min() == 2 and (used.max() == length or length == 384)
  logits = jax.jit(model.apply)({'params': params}, **batch).logits
  wanted = [as_labels(row) for row in np.asarray(jax.nn.softmax(logits))]
  assert {best(scores) for scores in wanted} >= {'bad', 'good'}
  with client_of(path) as client:
    results = [client(text) for text in texts]
  for text, scores, expected in zip(texts, results, wanted, strict=True):
    assert largest_difference(scores, expected) < 1e-5, text
    assert best(scores) == best(expected), text


def test_what_its_tokenizer_reads_otherwise(classifier, tokenizer, tmp_path):
  length = 128
  path = tmp_path / 'model.tflite'
  folded = save(classifier, tokenizer, path, length)
  loaded = litert.Loaded(path)

  def computed(ids):
    row = np.asarray([ids])
    ones = np.ones_like(row)
    return as_labels(
      loaded(
        {'input_ids': row, 'attention_mask': ones, 'token_type_ids': 0 * row}
      )['probabilities'][0]
    )

  assert folded.config.max_position_embeddings > length
  with client_of(path) as client:
    results = {text: client(text) for text in DIFFERENT + SAME}
  for text, scores in results.items():
    theirs = mediapipe_tokenizer.encode(tokenizer.get_vocab(), text, length)
    assert largest_difference(scores, computed(theirs)) < 1e-6, text
    ours = tokenizer(text, truncation=True, max_length=length)['input_ids']
    difference = largest_difference(scores, computed(ours))
    if text in DIFFERENT:
      assert mediapipe_tokenizer.differs(tokenizer, text), text
      assert difference > 1e-5, text
    else:
      assert not mediapipe_tokenizer.differs(tokenizer, text), text
      assert difference < 1e-6, text


@pytest.fixture(scope='module')
def measured(classifier, tokenizer):
  """The ranges of the classifier's tensors."""
  model, params = classifier
  folded = folding.fold(CLASSIFIER, model.config, params)
  batch = tokenizer(
    make_texts(30), padding='max_length', truncation=True, max_length=32,
    return_tensors='np',
  )  # fmt: skip
  return folded, ranges.measure(folded, [dict(batch)])


@pytest.mark.parametrize('kind', litert_tools.KINDS)
def test_smaller_files(classifier, tokenizer, measured, kind, tmp_path):
  path = tmp_path / 'model.tflite'
  calibration = None
  if kind in quantization.SCHEMES:
    calibration = quantization.calibrate(measured[0], kind, measured[1])
  save(
    classifier, tokenizer, path, 32, quantization=kind, calibration=calibration
  )
  texts = make_texts(20)
  with client_of(path) as client:
    results = [client(text) for text in texts]
  loaded = litert.Loaded(path)
  for text, scores in zip(texts, results, strict=True):
    batch = tokenizer([text], truncation=True, max_length=32)
    [row] = loaded(batch)['probabilities']
    assert largest_difference(scores, as_labels(row)) < 1e-5, text


def test_what_is_in_the_file(classifier, tokenizer, tmp_path):
  path = tmp_path / 'model.tflite'
  save(classifier, tokenizer, path, 32)
  first = path.read_bytes()
  save(classifier, tokenizer, path, 32)
  assert path.read_bytes() == first
  with zipfile.ZipFile(path) as archive:
    assert archive.namelist() == ['vocab.txt', 'labels.txt']
    assert archive.read('vocab.txt').decode().split('\n')[:-1] == VOCABULARY
    assert archive.read('labels.txt').decode() == 'bad\nso so\ngood\n'
    # A client reads them in place.
    assert {info.compress_type for info in archive.infolist()} == {0}


ANSWER = """
import json, sys
from tflite_support.task import text
answerer = text.BertQuestionAnswerer.create_from_file(sys.argv[1])
answers = []
for context, question in json.loads(sys.argv[2]):
  result = answerer.answer(context, question)
  answers.append([
    [a.pos.start, a.pos.end, a.pos.logit, a.text] for a in result.answers
  ])
print(json.dumps(answers))
"""


def ask(path, questions):
  """What the Task Library answers, in an environment that has it."""
  python = os.environ.get('TFLITE_SUPPORT_PYTHON', sys.executable)
  found = subprocess.run(
    [python, '-c', 'import tflite_support'], capture_output=True
  )
  if found.returncode:
    pytest.skip('TFLITE_SUPPORT_PYTHON names no Python with tflite-support')
  done = subprocess.run(
    [python, '-c', ANSWER, str(path), json.dumps(questions)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def best_span(outputs, first, last):
  """The best answer in tokens [first, last), as the Task Library looks for it.

  It pairs the five best starts with the five best ends.
  """
  start, end = outputs['start_logits'][0], outputs['end_logits'][0]
  spans = [
    (start[s] + end[e], s, e)
    for s in np.argsort(-start)[:5]
    for e in np.argsort(-end)[:5]
    if first <= s <= e < last and e - s < 32
  ]
  return max(spans, default=None)


def test_question_answering(tokenizer, tmp_path):
  folded = fold(ANSWERER)
  path = tmp_path / 'model.tflite'
  export_mediapipe.save_question_answerer(folded, path, tokenizer)
  texts = [text for text in make_texts(40) if len(text.split()) > 7]
  questions = [(text, 'who wrote the story?') for text in texts]
  answered = 0
  for (context, question), answers in zip(
    questions, ask(path, questions), strict=True
  ):
    batch = tokenizer(
      [question], [context], padding='max_length', max_length=384
    )
    batch = {name: np.asarray(value) for name, value in batch.items()}
    outputs = graph.apply(folded, numpy_operations(), batch)
    is_context = batch['token_type_ids'][0].nonzero()[0]
    span = best_span(outputs, is_context[0], is_context[-1])
    if span is None:
      assert answers == []
      continue
    answered += 1
    logit, start, end = span
    assert answers[0][:2] == [start, end]
    assert abs(answers[0][2] - logit) < 1e-4
    offsets = tokenizer(question, context, return_offsets_mapping=True)
    offsets = offsets['offset_mapping']
    text = context[offsets[start][0] : offsets[end][1]]
    # It answers in whole words.
    assert ' '.join(text.split()) in ' '.join(answers[0][3].split())
  assert answered >= 5


def test_files_that_cannot_be(classifier, tokenizer, tmp_path):
  model, params = classifier
  folded = folding.fold(CLASSIFIER, model.config, params)
  path = tmp_path / 'model.tflite'

  def refuse(message, graph=folded, tokenizer=tokenizer, labels=LABELS):
    with pytest.raises(InputError, match=message):
      export_mediapipe.save_classifier(graph, path, 32, tokenizer, labels)
    assert not path.exists()

  refuse('2 labels for a model of 3', labels=['a', 'b'])
  refuse("'' cannot be a line of labels.txt", labels=['a', '', 'b'])
  refuse('cannot use a MobileBertForQuestionAnswering', fold(ANSWERER))
  first, second, *rest = VOCABULARY
  swapped = MobileBertTokenizerFast([second, first, *rest])
  refuse(r'\[PAD\] has id 1; MediaPipe pads with id 0', tokenizer=swapped)
  renamed = [*VOCABULARY, '<s>']
  refuse(
    r"cls_token is '<s>'; MediaPipe knows no other than \[CLS\]",
    tokenizer=MobileBertTokenizerFast(renamed, cls_token='<s>'),
  )
  with pytest.raises(InputError, match='cannot use a MobileBertForSequence'):
    export_mediapipe.save_question_answerer(folded, path, tokenizer)
