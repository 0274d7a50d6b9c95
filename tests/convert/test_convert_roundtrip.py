"""Weights survive every way out and back, bit for bit."""

import json
import logging

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mobilebert_jax import models
from mobilebert_jax.convert import mapping, names
from mobilebert_jax.convert.formats import safetensors
from mobilebert_jax.convert.pretrained import (
  from_pretrained,
  load_pretrained,
  resize_token_embeddings,
  save_pretrained,
  take_layers,
)
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import (
  BATCH,
  CLASSES,
  FLAGS,
  assert_same_bits,
  random_params,
  tiny,
  tiny_config,
)

PRETRAINING = models.MobileBertForPreTraining
CLASSIFIER = models.MobileBertForSequenceClassification


def _ids(flags):
  return ','.join(f'{k}={v}' for k, v in flags.items()) or 'default'


def _state(directory):
  return safetensors.read(directory / 'model.safetensors')


def _rewrite(directory, change):
  """Lets `change` edit the state dict of a saved model."""
  tensors = dict(_state(directory))
  change(tensors)
  safetensors.write(directory / 'model.safetensors', tensors)


@pytest.mark.parametrize(
  ('cls', 'flags'),
  [*((cls, {}) for cls in CLASSES), *((PRETRAINING, f) for f in FLAGS[1:])],
  ids=lambda value: _ids(value) if isinstance(value, dict) else value.__name__,
)
def test_every_class_and_flag_survives(cls, flags, tmp_path):
  model, params = tiny(cls, **flags)
  save_pretrained(tmp_path / 'm', model, params)
  loaded = load_pretrained(cls, tmp_path / 'm')
  assert loaded.model == model
  assert loaded.report == mapping.LoadReport()
  assert_same_bits(loaded.params, params)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float64'])
def test_stored_dtype_is_kept(dtype, tmp_path):
  model, params = tiny(dtype=dtype)
  save_pretrained(tmp_path / 'm', model, params)
  kept = load_pretrained(PRETRAINING, tmp_path / 'm', param_dtype='auto')
  assert_same_bits(kept.params, params)
  cast = load_pretrained(PRETRAINING, tmp_path / 'm')
  assert {x.dtype.name for x in jax.tree.leaves(cast.params)} == {'float32'}


def test_saving_can_change_the_dtype(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params, dtype='bfloat16')
  assert {x.dtype.name for x in _state(tmp_path / 'm').values()} == {'bfloat16'}


def test_from_pretrained_gives_a_model_that_computes_the_same(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)
  again, loaded = from_pretrained(PRETRAINING, tmp_path / 'm', layers='loop')
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(loaded))
  np.testing.assert_allclose(
    again.apply({'params': loaded}, **BATCH).prediction_logits,
    model.apply({'params': params}, **BATCH).prediction_logits,
    rtol=1e-5,
    atol=1e-5,
  )


def test_float64_weights_need_x64(tmp_path):
  model, params = tiny(dtype='float64')
  save_pretrained(tmp_path / 'm', model, params)
  with pytest.raises(InputError, match='jax_enable_x64'):
    from_pretrained(PRETRAINING, tmp_path / 'm', param_dtype='auto')


def test_shards_hold_all_and_respect_the_size(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params, max_shard_size='6KB')
  files = sorted((tmp_path / 'm').glob('model-*.safetensors'))
  index = json.loads((tmp_path / 'm/model.safetensors.index.json').read_text())
  sizes = [
    sum(tensor.nbytes for tensor in safetensors.read(file).values())
    for file in files
  ]
  assert len(files) > 2 and max(sizes) <= 6000
  assert sum(sizes) == index['metadata']['total_size']
  assert files[0].name == f'model-00001-of-{len(files):05d}.safetensors'
  assert_same_bits(load_pretrained(PRETRAINING, tmp_path / 'm').params, params)
  single = tmp_path / 'm/model.safetensors.index.json'
  assert_same_bits(load_pretrained(PRETRAINING, single).params, params)


def test_saving_again_leaves_one_model_and_other_files(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params, max_shard_size='6KB')
  (tmp_path / 'm/notes.txt').write_text('mine')
  other = random_params(model, seed=1)
  save_pretrained(tmp_path / 'm', model, other)
  names_left = sorted(file.name for file in (tmp_path / 'm').iterdir())
  assert names_left == ['config.json', 'model.safetensors', 'notes.txt']
  assert [file.name for file in tmp_path.iterdir()] == ['m']
  assert_same_bits(load_pretrained(PRETRAINING, tmp_path / 'm').params, other)


def test_failed_saving_changes_nothing(tmp_path):
  model, params = tiny()

  class Tokenizer:
    def save_pretrained(self, directory):
      raise RuntimeError('disk full')

  with pytest.raises(RuntimeError, match='disk full'):
    save_pretrained(tmp_path / 'm', model, params, Tokenizer())
  assert list(tmp_path.iterdir()) == []


def test_tied_copies_are_not_written(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)
  assert not [n for n in _state(tmp_path / 'm') if 'decoder' in n]
  header = (tmp_path / 'm/model.safetensors').read_bytes()[8:80]
  assert b'"__metadata__":{"format":"pt"}' in header


def test_equal_tied_copies_are_accepted(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)

  def add_copies(tensors):
    word = tensors['mobilebert.embeddings.word_embeddings.weight']
    tensors['cls.predictions.decoder.weight'] = word
    tensors['cls.predictions.decoder.bias'] = tensors['cls.predictions.bias']

  _rewrite(tmp_path / 'm', add_copies)
  assert_same_bits(load_pretrained(PRETRAINING, tmp_path / 'm').params, params)


def test_either_name_of_a_tied_tensor_is_enough(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)

  def rename(tensors):
    for kept, copy in names.TIED:
      kept = kept if kept in tensors else f'mobilebert.{kept}'
      tensors[copy] = tensors.pop(kept)

  _rewrite(tmp_path / 'm', rename)
  assert_same_bits(load_pretrained(PRETRAINING, tmp_path / 'm').params, params)


@pytest.mark.parametrize('pair', [0, 1])
def test_unequal_tied_copies_are_refused(pair, tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)
  kept, copy = names.TIED[pair]

  def add_copy(tensors):
    source = kept if kept in tensors else f'mobilebert.{kept}'
    tensors[copy] = tensors[source].copy()
    tensors[copy].flat[5] += 1

  _rewrite(tmp_path / 'm', add_copy)
  with pytest.raises(InputError, match=f'{kept} and {copy} differ'):
    load_pretrained(PRETRAINING, tmp_path / 'm')


@pytest.mark.parametrize('lost', ['bias', 'decoder.bias'])
def test_untied_checkpoint_of_transformers_4_with_one_bias(lost, tmp_path):
  model, params = tiny(tie_word_embeddings=False)
  params['predictions']['decoder']['bias'] = params['predictions']['bias']
  save_pretrained(tmp_path / 'm', model, params)
  _rewrite(tmp_path / 'm', lambda t: t.pop(f'cls.predictions.{lost}'))
  assert_same_bits(load_pretrained(PRETRAINING, tmp_path / 'm').params, params)


def test_old_names_are_read(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path / 'm', model, params)

  def age(tensors):
    for name in list(tensors):
      if name.endswith('LayerNorm.weight'):
        new = name.removesuffix('weight') + 'gamma'
      elif name.endswith('LayerNorm.bias'):
        new = name.removesuffix('bias') + 'beta'
      else:
        continue
      tensors[new] = tensors.pop(name)
    positions = np.arange(20, dtype=np.int64)[None]
    tensors['mobilebert.embeddings.position_ids'] = positions

  _rewrite(tmp_path / 'm', age)
  loaded = load_pretrained(PRETRAINING, tmp_path / 'm')
  assert_same_bits(loaded.params, params)
  assert loaded.report == mapping.LoadReport()


@pytest.mark.parametrize('cls', CLASSES)
def test_pretraining_checkpoint_into_any_class(cls, tmp_path, caplog):
  model, params = tiny(classifier_activation=False)
  save_pretrained(tmp_path / 'm', model, params)
  with caplog.at_level(logging.WARNING):
    result = load_pretrained(cls, tmp_path / 'm')
  body = params['mobilebert']
  is_bare = cls is models.MobileBertModel
  loaded = result.params if is_bare else result.params['mobilebert']
  assert_same_bits(loaded, body)
  heads = set(result.params) - set(body) - {'mobilebert'}
  fresh = heads - {'predictions', 'seq_relationship'}
  assert {
    path.split('/')[0] for path in result.report.newly_initialised
  } == fresh
  assert bool(caplog.records) == bool(fresh)
  for head in fresh:
    assert f'{head}/kernel' in caplog.text
  for head in heads - fresh:
    assert_same_bits(result.params[head], params[head])


def test_bare_checkpoint_into_a_head_and_back(tmp_path):
  bare, body = tiny(models.MobileBertModel)
  save_pretrained(tmp_path / 'bare', bare, body)
  headed = load_pretrained(CLASSIFIER, tmp_path / 'bare')
  assert_same_bits(headed.params['mobilebert'], body)
  save_pretrained(tmp_path / 'headed', headed.model, headed.params)
  back = load_pretrained(models.MobileBertModel, tmp_path / 'headed')
  assert_same_bits(back.params, body)
  assert back.report.unused == ('classifier.bias', 'classifier.weight')


def test_fresh_pooler_is_reported(tmp_path):
  model, params = tiny(models.MobileBertForMaskedLM)
  save_pretrained(tmp_path / 'm', model, params)
  report = load_pretrained(CLASSIFIER, tmp_path / 'm').report
  assert report.newly_initialised == (
    'classifier/bias',
    'classifier/kernel',
    'mobilebert/pooler/bias',
    'mobilebert/pooler/kernel',
  )


def test_no_class_means_the_one_that_was_saved(tmp_path):
  for cls in CLASSES:
    model, params = tiny(cls)
    save_pretrained(tmp_path / cls.__name__, model, params)
    loaded = load_pretrained(None, tmp_path / cls.__name__)
    assert loaded.model == model
    assert_same_bits(loaded.params, params)


def test_new_number_of_labels_makes_a_fresh_head(tmp_path):
  model, params = tiny(CLASSIFIER, num_labels=3)
  save_pretrained(tmp_path / 'm', model, params)
  result = load_pretrained(CLASSIFIER, tmp_path / 'm', num_labels=5)
  both = ('classifier/bias', 'classifier/kernel')
  assert result.report.newly_initialised == result.report.mismatched == both
  assert result.params['classifier']['kernel'].shape == (32, 5)
  assert_same_bits(result.params['mobilebert'], params['mobilebert'])


def test_ignore_mismatched_sizes(tmp_path):
  model, params = tiny(CLASSIFIER, num_labels=3)
  save_pretrained(tmp_path / 'm', model, params)
  options = {'config': tiny_config(num_labels=2)}
  with pytest.raises(InputError, match='ignore_mismatched_sizes=True'):
    load_pretrained(CLASSIFIER, tmp_path / 'm', **options)
  result = load_pretrained(
    CLASSIFIER, tmp_path / 'm', ignore_mismatched_sizes=True, **options
  )
  assert result.report.mismatched == ('classifier/bias', 'classifier/kernel')


def test_fresh_heads_follow_the_key(tmp_path):
  model, params = tiny(models.MobileBertModel)
  save_pretrained(tmp_path / 'm', model, params)
  kernels = [
    load_pretrained(
      CLASSIFIER, tmp_path / 'm', key=jax.random.key(seed)
    ).params['classifier']['kernel']
    for seed in (1, 1, 2)
  ]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize('bare', [False, True], ids=['head', 'bare'])
@pytest.mark.parametrize(
  ('layers', 'expected'), [(2, (0, 3)), (3, (0, 2, 3)), ((2, 0), (2, 0))]
)
def test_taking_blocks(layers, expected, bare, tmp_path):
  """Blocks bit for bit in the order given, all else as it was."""
  cls = models.MobileBertModel if bare else CLASSIFIER
  model, params = tiny(cls, num_hidden_layers=4)
  smaller, new = take_layers(model, params, layers)
  assert smaller.config == model.config.replace(num_hidden_layers=len(expected))
  before, after = (flatten_dict(p, sep='/') for p in (params, new))
  assert before.keys() == after.keys()
  for path, old in before.items():
    kept = old[list(expected)] if names.LAYERS in path else old
    np.testing.assert_array_equal(after[path], kept)
  save_pretrained(tmp_path / 'm', smaller, new)
  assert_same_bits(load_pretrained(cls, tmp_path / 'm').params, new)


@pytest.mark.parametrize(
  ('size', 'untied'), [(50, False), (60, False), (75, False), (75, True)]
)
def test_resizing_the_vocabulary(size, untied):
  model, params = tiny(tie_word_embeddings=not untied)
  resized, new = resize_token_embeddings(model, params, size)
  assert resized.config == model.config.replace(vocab_size=size)
  before, after = (flatten_dict(p, sep='/') for p in (params, new))
  expected = flatten_dict(models.abstract_params(resized), sep='/')
  assert {p: x.shape for p, x in after.items()} == {
    p: x.shape for p, x in expected.items()
  }
  for path, old in before.items():
    both = tuple(slice(min(n, m)) for n, m in zip(old.shape, after[path].shape))
    np.testing.assert_array_equal(after[path][both], old[both])
  if size > 60:
    assert not np.any(after['predictions/bias'][60:])
    assert np.all(after['predictions/dense/kernel'][:, 60:])


def test_table_is_one_to_one():
  config = tiny_config(num_hidden_layers=3, num_feedforward_networks=4)
  entries = names.entries(config)
  assert len({e.hf for e in entries}) == len(entries)
  assert len({(e.ours, e.layer) for e in entries}) == len(entries)
  tf1 = [e.tf1 for e in entries if e.tf1]
  assert len(set(tf1)) == len(tf1)
  assert not [e for e in entries if '{' in e.ours + e.hf + e.tf1]


def test_published_config_has_the_reference_tensor_count():
  config = tiny_config(
    num_hidden_layers=24,
    num_feedforward_networks=4,
    classifier_activation=False,
  )
  model = PRETRAINING(config)
  expected = flatten_dict(models.abstract_params(model), sep='/')
  params = {path: np.zeros(x.shape, np.float32) for path, x in expected.items()}
  for copies, count in ((True, 1121), (False, 1119)):
    tensors = mapping.to_tensors(params, expected, config, tied_copies=copies)
    assert len(tensors) == count


def test_safetensors_of_any_layout_in_memory(tmp_path):
  path = tmp_path / 'model.safetensors'
  array = np.arange(6, dtype=np.float32).reshape(2, 3)
  tensors = {
    'transposed': array.T,
    'strided': array[:, ::2],
    'scalar': array[0, 0],
  }
  safetensors.write(path, tensors)
  for name, value in safetensors.read(path).items():
    np.testing.assert_array_equal(value, tensors[name])
    assert value.shape == np.shape(tensors[name])
