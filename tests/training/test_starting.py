"""What a run begins with: labels and vocabularies of two parties, by name."""

import json

import jax
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.run import (
  DataConfig,
  DistillationConfig,
  TrainConfig,
)
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.distillation import teacher
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import environment, scoring, setup, starting
from mobilebert_jax.training.workdir import Workdir
from tests.support import one_device
from tests.support.convert_models import assert_same_bits, tiny

CLASSIFIER = models.MobileBertForSequenceClassification
WORDS = [
  *'[PAD] [UNK] [CLS] [SEP] [MASK] [unused0]'.split(),
  *map('w{}'.format, range(54)),
]


def _write(directory, labels=('positive', 'negative'), words=WORDS, **changes):
  """A classifier of 60 tokens with its vocabulary; returns its parameters."""
  changes = {'id2label': dict(enumerate(labels)), **changes}
  model, params = tiny(CLASSIFIER, **changes)
  tokenizer = words and MobileBertTokenizerFast(words)
  save_pretrained(directory, model, params, tokenizer or None)
  return params


def _config(directory, **settings):
  return TrainConfig(
    **{
      'task': 'sst2',
      'init': str(directory),
      'num_steps': 1,
      'data': DataConfig(max_length=16),
      **settings,
    }
  )


def _begin(config):
  return starting.begin(config, setup.find_task(config), ())


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  return directory, _write(directory)


def _vocab(path, words):
  path.write_text('\n'.join(words) + '\n')
  return str(path)


def test_a_run_keeps_the_rows_of_its_labels(place):
  """The task has them as negative, positive."""
  directory, params = place
  start = _begin(_config(directory))
  assert start.model.config.id2label == {0: 'negative', 1: 'positive'}
  for name, value in params['classifier'].items():
    assert np.array_equal(start.params['classifier'][name], value[..., ::-1])
  assert any('put into the order negative, pos' in n for n in start.notes)


def test_a_teacher_keeps_the_rows_of_its_labels(place, tmp_path):
  directory, params = place
  config = _config(
    'scratch',
    distillation=DistillationConfig(teacher=str(directory), strategy='none'),
  )
  task = setup.find_task(config)
  tokenizer = MobileBertTokenizerFast(WORDS)
  student, _ = tiny(CLASSIFIER, id2label={0: 'negative', 1: 'positive'})
  loaded = teacher.load(config, task, student, tokenizer)
  kernel = params['classifier']['kernel']
  assert np.array_equal(loaded.params['classifier']['kernel'], kernel[:, ::-1])
  assert 'put into the order' in loaded.notes[0]
  _write(tmp_path / 'other', ('yes', 'no'))
  config = _config(
    'scratch',
    distillation=DistillationConfig(
      teacher=str(tmp_path / 'other'), strategy='none'
    ),
  )
  with pytest.raises(InputError, match='has the 2 labels yes, no, which are'):
    teacher.load(config, task, student, tokenizer)


def test_a_scored_model_keeps_the_rows_of_its_labels(place, tmp_path):
  directory, params = place
  config = _config(directory)
  task = setup.find_task(config)
  _write(tmp_path / 'other', ('yes', 'no'))
  _write(tmp_path / 'three', ('a', 'b', 'c'))
  save_pretrained(tmp_path / 'bare', *tiny(models.MobileBertModel))
  with one_device.used():
    mesh = setup.make_mesh(config)
    start, _ = scoring._load(config, task, directory, mesh)
    for name, message in (
      ('other', 'has the 2 labels yes, no'),
      ('three', 'has the 3 labels a, b, c'),
      ('bare', 'has no weights for classifier/bias'),
    ):
      with pytest.raises(InputError, match=message):
        scoring._load(config, task, tmp_path / name, mesh)
  bias = params['classifier']['bias']
  assert np.array_equal(start.params['classifier']['bias'], bias[::-1])


def test_labels_that_the_data_has_in_another_order(tmp_path):
  """As when a run on someone's own files is continued or scored."""
  config = _config('scratch')
  task = setup.find_task(config)
  workdir = Workdir(tmp_path)
  model, params = tiny(CLASSIFIER, id2label={0: 'positive', 1: 'negative'})
  workdir.start(
    config, model, MobileBertTokenizerFast(WORDS), {}, environment.record()
  )
  with pytest.raises(InputError, match='use the data that it began with'):
    starting.resume(config, task, workdir)
  start = starting.resume(config, task, workdir, scores=True)
  assert start.model.config.id2label[0] == 'negative'
  order = starting.label_order(task, model.config, workdir).order
  placed = jax.tree.map(jax.numpy.asarray, params)
  turned = scoring.label_names.with_order(placed, order)
  bias = params['classifier']['bias']
  assert np.array_equal(turned['classifier']['bias'], bias[::-1])
  assert_same_bits(turned['mobilebert'], params['mobilebert'])
  other = model.config.replace(id2label={0: 'yes', 1: 'no'})
  with pytest.raises(InputError, match='or data with its labels'):
    starting.label_order(task, other, workdir)


def test_another_vocabulary_is_refused_and_a_larger_one_grows(place, tmp_path):
  directory, _ = place
  path = tmp_path / 'vocab.txt'
  for words, message in (
    ([*WORDS[:6], *reversed(WORDS[6:])], "'w53' has the id 6 in it, and not"),
    ([*WORDS[:7], *map('x{}'.format, range(10))], "the id 7 is 'x0' in it"),
  ):
    config = _config(directory, tokenizer=_vocab(path, words))
    with pytest.raises(InputError, match=message) as raised:
      _begin(config)
    assert '\n' not in str(raised.value)
  words = [*WORDS[:5], 'new', *WORDS[6:], 'newer']
  start = _begin(_config(directory, tokenizer=_vocab(path, words)))
  assert start.model.config.vocab_size == 61
  assert any('has 1 tokens in places that are unus' in n for n in start.notes)


def test_a_vocabulary_that_nobody_knows_is_said(tmp_path):
  _write(tmp_path / 'm', words=None)
  vocab = _vocab(tmp_path / 'vocab.txt', WORDS)
  start = _begin(_config(tmp_path / 'm', tokenizer=vocab))
  assert any('nobody can tell' in note for note in start.notes)


def test_padding_of_the_tokenizer_counts(tmp_path):
  words = [*WORDS[1:3], '[PAD]', *WORDS[3:]]
  _write(tmp_path / 'm', words=words)
  start = _begin(_config(tmp_path / 'm'))
  assert start.model.config.pad_token_id == 2
  assert any("'[PAD]', whose id is 2" in note for note in start.notes)
  with pytest.raises(InputError, match=r'config\.model\.pad_token_id is 1'):
    _begin(_config(tmp_path / 'm', model={'pad_token_id': 1}))


def test_capitals_and_accents_can_be_set(place, tmp_path):
  directory, _ = place
  config = _config(directory, do_lower_case=False, strip_accents=True)
  tokenizer = _begin(config).tokenizer
  assert (tokenizer.do_lower_case, tokenizer.strip_accents) == (False, True)
  tokenizer.save_pretrained(tmp_path)
  saved = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  assert saved['do_lower_case'] is False
