"""Each wrong source is told in one sentence that lists all that is wrong."""

import json
import re
import shutil
import struct

import ml_dtypes
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import __main__ as command
from mobilebert_jax.convert import names
from mobilebert_jax.convert.formats import safetensors, shards
from mobilebert_jax.convert.pretrained import (
  from_pretrained,
  load_pretrained,
  resize_token_embeddings,
  save_pretrained,
  take_layers,
)
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import tiny, tiny_config

PRETRAINING = models.MobileBertForPreTraining
WEIGHTS = 'model.safetensors'
WORDS = 'mobilebert.embeddings.word_embeddings.weight'
QUERY = 'mobilebert.encoder.layer.1.attention.self.query.weight'


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp('saved')
  save_pretrained(directory, *tiny(PRETRAINING))
  return directory


@pytest.fixture
def model_dir(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'm')


def _edit(directory, change):
  tensors = dict(safetensors.read(directory / WEIGHTS))
  change(tensors)
  safetensors.write(directory / WEIGHTS, tensors)


def _truncate(directory):
  content = (directory / WEIGHTS).read_bytes()
  (directory / WEIGHTS).write_bytes(content[: len(content) // 2])


def _huge_header(directory):
  (directory / WEIGHTS).write_bytes(struct.pack('<Q', 2**60) + b'{}')


def _foreign_dtype(directory):
  header = json.dumps(
    {'a': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}
  ).encode()
  content = struct.pack('<Q', len(header)) + header + b'\0' * 4
  (directory / WEIGHTS).write_bytes(content)


def _shard(directory, change):
  """Turns the model into shards and edits their index."""
  model, params = tiny(PRETRAINING)
  save_pretrained(directory, model, params, max_shard_size='6KB')
  file = directory / 'model.safetensors.index.json'
  index = json.loads(file.read_text())
  change(directory, index)
  file.write_text(json.dumps(index))


def _lose_shard(directory, index):
  (directory / sorted(set(index['weight_map'].values()))[1]).unlink()


def _climb(directory, index):
  index['weight_map'][WORDS] = '../elsewhere.safetensors'


def _promise_more(directory, index):
  index['weight_map']['never.there'] = index['weight_map'][WORDS]


CASES = {
  'missing': (
    lambda d: _edit(d, lambda t: (t.pop(WORDS), t.pop(QUERY))),
    'missing: embeddings.word_embeddings.weight, '
    'encoder.layer.1.attention.self.query.weight.',
  ),
  'half a head': (
    lambda d: _edit(d, lambda t: t.pop('cls.predictions.dense.weight')),
    'missing: cls.predictions.dense.weight.',
  ),
  'unknown name': (
    lambda d: _edit(d, lambda t: t.update({'bert.x': t[WORDS]})),
    'unused: bert.x.',
  ),
  'a layer too many': (
    lambda d: _edit(
      d, lambda t: t.update({QUERY.replace('.1.', '.2.'): t[QUERY]})
    ),
    'unused: encoder.layer.2.attention.self.query.weight.',
  ),
  'wrong shape': (
    lambda d: _edit(d, lambda t: t.update({QUERY: t[QUERY][:8]})),
    'mis-shaped: encoder.layer.1.attention.self.query.weight is (8, 16) '
    'instead of (16, 16) (ignore_mismatched_sizes',
  ),
  'whole numbers': (
    lambda d: _edit(d, lambda t: t.update({QUERY: t[QUERY].astype('int8')})),
    'is int8 instead of floating point',
  ),
  'twice': (
    lambda d: _edit(
      d, lambda t: t.update({WORDS.removeprefix('mobilebert.'): t[WORDS]})
    ),
    'has embeddings.word_embeddings.weight twice',
  ),
  'truncated': (_truncate, 'is no intact safetensors file'),
  'empty': (
    lambda d: (d / WEIGHTS).write_bytes(b''),
    'is no intact safetensors file',
  ),
  'huge header': (_huge_header, 'is no intact safetensors file'),
  'foreign dtype': (_foreign_dtype, 'a is stored as F8_E4M3; readable are'),
  'no weights': (
    lambda d: (d / WEIGHTS).unlink(),
    'holds none of model.safetensors, model.safetensors.index.json, '
    'pytorch_model.bin, pytorch_model.bin.index.json and no TensorFlow',
  ),
  'only keras weights': (
    lambda d: (d / WEIGHTS).rename(d / 'tf_model.h5'),
    'only tf_model.h5, which cannot be read',
  ),
  'no config': (
    lambda d: (d / 'config.json').unlink(),
    'has no config.json',
  ),
  'broken config': (
    lambda d: (d / 'config.json').write_text('{'),
    'cannot be read as JSON',
  ),
  'other model': (
    lambda d: (d / 'config.json').write_text('{"model_type": "bert"}'),
    "model_type 'bert'",
  ),
  'lost shard': (
    lambda d: _shard(d, _lose_shard),
    'lists files that are missing: model-00002',
  ),
  'shard elsewhere': (
    lambda d: _shard(d, _climb),
    'which must be the name of a file beside the index',
  ),
  'index promises more': (
    lambda d: _shard(d, _promise_more),
    'lists tensors that its files do not hold: never.there.',
  ),
  'index without map': (
    lambda d: _shard(d, lambda _, index: index.pop('weight_map')),
    "has no 'weight_map'",
  ),
  'several tensorflow checkpoints': (
    lambda d: (
      (d / WEIGHTS).unlink(),
      (d / 'a.ckpt.index').touch(),
      (d / 'b.ckpt.index').touch(),
    ),
    'holds several TensorFlow checkpoints, name one of',
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_wrong_source_is_one_sentence(name, model_dir, capsys):
  spoil, message = CASES[name]
  spoil(model_dir)
  with pytest.raises(InputError, match=re.escape(message)) as raised:
    load_pretrained(PRETRAINING, model_dir)
  assert '\n' not in str(raised.value)
  target = model_dir.parent / 'out'
  assert (
    exit_status.run(command.main, ['convert', str(model_dir), str(target)]) == 2
  )
  captured = capsys.readouterr()
  assert captured.err.startswith('error: ') and message in captured.err
  assert 'Traceback' not in captured.err
  assert [path.name for path in model_dir.parent.iterdir()] == ['m']


def test_all_kinds_are_listed_together(model_dir):
  def spoil(tensors):
    tensors.pop(WORDS)
    tensors['strange'] = np.zeros(3, np.float32)
    tensors[QUERY] = np.zeros((2, 2), np.float32)

  _edit(model_dir, spoil)
  with pytest.raises(InputError) as raised:
    load_pretrained(PRETRAINING, model_dir)
  message = str(raised.value)
  assert 'does not fit MobileBertForPreTraining: missing: emb' in message
  assert '; unused: strange; mis-shaped: encoder.layer.1' in message


WRONG_OPTIONS = {
  'dtype': ({'dtype': 'float16'}, '2.5e7'),
  'param_dtype': ({'param_dtype': 'int8'}, 'param_dtype'),
  'layers': ({'layers': 'both'}, 'scan'),
  'unknown field': ({'hidden_sise': 3}, "no field 'hidden_sise'"),
  'field value': ({'num_attention_heads': 3}, 'num_attention_heads'),
  'pooling layer': ({'add_pooling_layer': False}, 'add_pooling_layer'),
  'subfolder': ({'subfolder': 'x'}, "no subfolder 'x'"),
}


@pytest.mark.parametrize('name', WRONG_OPTIONS)
def test_wrong_option(name, saved):
  options, message = WRONG_OPTIONS[name]
  with pytest.raises(InputError, match=re.escape(message)):
    from_pretrained(PRETRAINING, saved, **options)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('/no/such/place', '/no/such/place does not exist'),
    ('a/b/c', 'a/b/c does not exist'),
    ('config.json', 'is no weights file'),
    ('x.h5.index.json', 'is no index'),
  ],
)
def test_wrong_names(name, message, model_dir):
  (model_dir / 'x.h5.index.json').write_text('{}')
  path = model_dir / name if name.endswith('json') else name
  with pytest.raises(InputError, match=re.escape(message)):
    load_pretrained(PRETRAINING, path)


def test_missing_torch_names_the_extra(model_dir, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'torch', None)
  (model_dir / WEIGHTS).unlink()
  # How torch's files begin: what they hold is told by that, not by the name.
  (model_dir / 'pytorch_model.bin').write_bytes(b'PK\x03\x04')
  with pytest.raises(InputError, match=re.escape("'mobilebert_jax[torch]'")):
    load_pretrained(PRETRAINING, model_dir)
  with pytest.raises(InputError, match=re.escape("'mobilebert_jax[torch]'")):
    save_pretrained(model_dir.parent / 'x', *tiny(), format='bin')
  assert not (model_dir.parent / 'x').exists()


def test_missing_tensorflow_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'tensorflow', None)
  (tmp_path / 'model.ckpt.index').touch()
  model_json.save_config(tiny_config(), tmp_path / 'bert_config.json')
  with pytest.raises(InputError, match=re.escape("'mobilebert_jax[tf]'")):
    load_pretrained(PRETRAINING, tmp_path)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'format': 'h5'}, 'must be one of safetensors, bin'),
    ({'dtype': 'int8'}, 'must be one of float32'),
    ({'max_shard_size': 'big'}, "max_shard_size is 'big'"),
    ({'max_shard_size': 0}, 'max_shard_size is 0'),
  ],
)
def test_wrong_saving_options(options, message, tmp_path):
  with pytest.raises(InputError, match=re.escape(message)):
    save_pretrained(tmp_path / 'm', *tiny(), **options)
  assert list(tmp_path.iterdir()) == []


def test_parameters_of_another_model_are_not_saved(tmp_path):
  model, params = tiny()
  params['extra'] = params.pop('seq_relationship')
  params['predictions']['bias'] = np.zeros(3, np.float32)
  with pytest.raises(InputError) as raised:
    save_pretrained(tmp_path / 'm', model, params)
  assert 'missing: seq_relationship/bias, seq_relationship/kernel; ' in str(
    raised.value
  )
  assert 'unused: extra/bias, extra/kernel; ' in str(raised.value)
  assert 'mis-shaped: predictions/bias is (3,) instead of (60,).' in str(
    raised.value
  )
  assert list(tmp_path.iterdir()) == []


def test_saving_over_a_file_is_refused(tmp_path):
  (tmp_path / 'm').touch()
  with pytest.raises(InputError, match='is a file, but must be a directory'):
    save_pretrained(tmp_path / 'm', *tiny())


@pytest.mark.parametrize('size', [0, -3, 2.5])
def test_impossible_vocabulary(size):
  with pytest.raises(InputError, match='vocab_size'):
    resize_token_embeddings(*tiny(), size)


@pytest.mark.parametrize(
  ('layers', 'message'),
  [
    (0, 'layers is 0, but must be at least 1'),
    (3, 'layers is 3, but must be at most 2, the number of blocks of the mod'),
    ((0, 2), 'from 0 to 1'),
    ((1, 1), 'none of them twice'),
  ],
)
def test_blocks_that_are_not_there(layers, message):
  with pytest.raises(InputError, match=re.escape(message)):
    take_layers(*tiny(num_hidden_layers=2), layers)


@pytest.mark.parametrize(
  ('size', 'number'),
  [('5GB', 5 * 10**9), ('2 GiB', 2**31), (1000, 1000), ('7mb', 7 * 10**6)],
)
def test_sizes(size, number):
  assert shards.parse_size(size) == number


def test_equal_nans_are_equal():
  bias = np.full(3, np.nan, ml_dtypes.bfloat16)
  tensors = {'cls.predictions.bias': bias, 'cls.predictions.decoder.bias': bias}
  merged = names.merge_tied(tensors, tiny_config(), 'x')
  assert list(merged) == ['cls.predictions.bias']
