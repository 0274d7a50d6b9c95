"""google-research's checkpoints: their names, their leftovers, both formats."""

import json
import types

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import __main__ as command
from mobilebert_jax.convert import source
from mobilebert_jax.convert.formats import tf1 as tf1_format
from mobilebert_jax.convert.mapping import LoadReport
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import assert_same_bits, tiny, tiny_config

PRETRAINING = models.MobileBertForPreTraining
CLASSIFIER = models.MobileBertForSequenceClassification
ANSWERING = models.MobileBertForQuestionAnswering


def _dense(ours, tf1):
  return {f'{tf1}/kernel': (f'{ours}/kernel', False),
          f'{tf1}/bias': (f'{ours}/bias', False)}  # fmt: skip


def _norm(ours, tf1):
  return {f'{tf1}/gamma': (f'{ours}/scale', False),
          f'{tf1}/beta': (f'{ours}/bias', False)}  # fmt: skip


def _written_by_hand():
  """google-research's name -> (our path, transposed), apart from the table.

  Layer names have no layer number; two feed-forward networks.
  """
  names = {
    f'bert/embeddings/{kind}_embeddings': (
      f'embeddings/{kind}_embeddings/embedding',
      False,
    )
    for kind in ('word', 'position', 'token_type')
  }
  at = 'embeddings/embedding_transformation'
  names |= _dense(at, f'bert/{at}')
  names |= _norm('embeddings/norm', 'bert/embeddings/FakeLayerNorm')
  layer = {}
  for part in ('query', 'key', 'value'):
    layer |= _dense(f'attention/{part}', f'attention/self/{part}')
  layer |= _dense('attention/output', 'attention/output/dense')
  layer |= _norm('attention/norm', 'attention/output/FakeLayerNorm')
  for number, tf1 in ((0, 'ffn_layer_0/'), (1, '')):
    ours = f'feed_forward/ffn_{number}'
    layer |= _dense(f'{ours}/intermediate', f'{tf1}intermediate/dense')
    layer |= _dense(f'{ours}/output', f'{tf1}output/dense')
    layer |= _norm(f'{ours}/norm', f'{tf1}output/FakeLayerNorm')
  for ours, tf1 in (
    ('bottleneck/input', 'bottleneck/input'),
    ('bottleneck/attention', 'bottleneck/attention'),
    ('output_bottleneck', 'output/bottleneck'),
  ):
    layer |= _dense(f'{ours}/dense', f'{tf1}/dense')
    layer |= _norm(f'{ours}/norm', f'{tf1}/FakeLayerNorm')
  for name, (ours, transposed) in layer.items():
    names[f'bert/encoder/layer_#/{name}'] = (
      f'encoder/layers/{ours}',
      transposed,
    )
  names |= _dense('pooler', 'bert/pooler/dense')
  names |= _dense('predictions/transform', 'cls/predictions/transform/dense')
  names |= _norm('predictions/norm', 'cls/predictions/transform/LayerNorm')
  names |= {
    'cls/predictions/extra_output_weights': ('predictions/dense/kernel', True),
    'cls/predictions/output_bias': ('predictions/bias', False),
  }
  for ours, tf1 in (
    ('seq_relationship', 'cls/seq_relationship/'),
    ('classifier', ''),
    ('qa_outputs', 'cls/squad/'),
  ):
    names |= {
      f'{tf1}output_weights': (f'{ours}/kernel', True),
      f'{tf1}output_bias': (f'{ours}/bias', False),
    }
  return names


def _variables(params):
  """A checkpoint of these parameters, with training's leftovers."""
  flat = {
    path.removeprefix('mobilebert/'): value
    for path, value in flatten_dict(params, sep='/').items()
  }
  variables = {}
  for name, (path, transposed) in _written_by_hand().items():
    if path not in flat:
      continue
    value = flat.pop(path)
    layers = range(len(value)) if '#' in name else (None,)
    for layer in layers:
      one = value if layer is None else value[layer]
      full = name.replace('#', str(layer))
      variables[full] = one.T if transposed else one
      variables[f'{full}/adam_m'] = np.zeros_like(variables[full])
      variables[f'{full}/lamb_v'] = np.zeros_like(variables[full])
  assert not flat, 'parameters without a name'
  return variables | {
    'global_step': np.array(7),
    'teacher/bert/embeddings/word_embeddings': np.zeros((2, 2), np.float32),
    'hidden_distill_0/LayerNorm/beta': np.zeros(2, np.float32),
  }


CASES = [
  (PRETRAINING, {}),
  (PRETRAINING, {'classifier_activation': False}),
  (CLASSIFIER, {'num_labels': 5}),
  (ANSWERING, {'classifier_activation': False}),
  (models.MobileBertModel, {}),
]


def _checkpoint_directory(directory, config):
  (directory / 'model.ckpt.index').touch()
  (directory / 'vocab.txt').write_text('[PAD]\n[UNK]\n')
  # Its name is google-research's, one per model.
  file = directory / 'uncased_L-2_H-16_B-32_A-2_F-2.json'
  file.write_text(json.dumps(model_json.to_google_dict(config)))


@pytest.mark.parametrize(('cls', 'flags'), CASES)
def test_names_of_google_research(cls, flags, tmp_path, monkeypatch):
  model, params = tiny(cls, **flags)
  _checkpoint_directory(tmp_path, model.config)
  read = {tmp_path / 'model.ckpt': _variables(params)}
  monkeypatch.setitem(source._READERS, 'tf1', read.__getitem__)
  for name in ('', 'model.ckpt', 'model.ckpt.index'):
    loaded = load_pretrained(cls, tmp_path / name)
    assert loaded.report == LoadReport()
    assert loaded.model == model
    assert_same_bits(loaded.params, params)
  assert (
    exit_status.run(
      command.main, ['convert', str(tmp_path), str(tmp_path / 'out')]
    )
    == 0
  )
  again = load_pretrained(None, tmp_path / 'out')
  assert again.model == model
  assert_same_bits(again.params, params)
  assert (tmp_path / 'out/vocab.txt').read_text() == '[PAD]\n[UNK]\n'


LEFTOVERS = {
  '1 of Adam': ('bert/pooler/dense/kernel/Adam_1', 'beta1_power'),
  '1 of Momentum': ('bert/pooler/dense/kernel/Momentum',),
  '1 moving averages': ('bert/pooler/dense/bias/ExponentialMovingAverage',),
  'of the loss scale': ('loss_scale', 'MixedPrecision/good_steps'),
  '2 ranges of quantisers': (
    'bert/encoder/layer_0/act_quant/min/biased',
    'bert/encoder/layer_0/weights_quant/max',
  ),
  '1 of other optimizers': ('bert/pooler/dense/kernel/RMSProp',),
  '1 counters of steps': ('global_step',),
}


@pytest.mark.parametrize('kind', LEFTOVERS)
def test_leftovers_of_training_are_left_out_and_said(
  kind, tmp_path, monkeypatch
):
  model, params = tiny(models.MobileBertModel)
  _checkpoint_directory(tmp_path, model.config)
  variables = {
    name: value
    for name, value in _variables(params).items()
    if name.startswith('bert/') and not name.endswith(('adam_m', 'lamb_v'))
  } | {name: np.zeros(2, np.float32) for name in LEFTOVERS[kind]}
  monkeypatch.setitem(source._READERS, 'tf1', lambda _: variables)
  loaded = load_pretrained(models.MobileBertModel, tmp_path)
  assert_same_bits(loaded.params, params)
  (note,) = loaded.report.notes
  assert 'left out what training kept' in note
  assert kind.removeprefix('1 ') in note


def test_the_file_checkpoint_says_which_is_the_last(tmp_path, monkeypatch):
  model, params = tiny(models.MobileBertModel)
  _checkpoint_directory(tmp_path, model.config)
  for step in (10, 200):
    (tmp_path / f'model.ckpt-{step}.index').touch()
  latest = tmp_path / 'checkpoint'
  latest.write_text(
    'model_checkpoint_path: "/elsewhere/run/model.ckpt-200"\n'
    'all_model_checkpoint_paths: "model.ckpt-10"\n'
  )
  read = {tmp_path / 'model.ckpt-200': _variables(params)}
  monkeypatch.setitem(source._READERS, 'tf1', read.__getitem__)
  result = load_pretrained(models.MobileBertModel, tmp_path)
  assert_same_bits(result.params, params)
  assert 'of 3 checkpoints in ' in result.report.notes[0]
  again = load_pretrained(models.MobileBertModel, latest)
  assert_same_bits(again.params, params)
  latest.write_text('model_checkpoint_path: "model.ckpt-300"')
  with pytest.raises(
    InputError, match=r'names model\.ckpt-300, which is not th'
  ):
    load_pretrained(models.MobileBertModel, tmp_path)
  latest.write_text('nothing')
  with pytest.raises(InputError, match='names no model_checkpoint_path'):
    load_pretrained(models.MobileBertModel, tmp_path)


def test_an_object_based_checkpoint(tmp_path, monkeypatch):
  reader = types.SimpleNamespace(
    get_variable_to_shape_map=lambda: {'_CHECKPOINTABLE_OBJECT_GRAPH': []}
  )
  fake = types.SimpleNamespace(
    train=types.SimpleNamespace(load_checkpoint=lambda prefix: reader),
    errors=types.SimpleNamespace(OpError=KeyError),
  )
  monkeypatch.setattr(tf1_format, '_tensorflow', lambda: fake)
  _checkpoint_directory(tmp_path, tiny_config())
  with pytest.raises(InputError, match='object-based checkpoint of TensorFlow'):
    load_pretrained(models.MobileBertModel, tmp_path)


def test_what_google_research_does_not_create(tmp_path, monkeypatch):
  """No embedding transformation, and no decoder rest, at equal widths."""
  model, params = tiny(
    trigram_input=False, embedding_size=32, use_bottleneck_attention=True
  )
  _checkpoint_directory(tmp_path, model.config)
  variables = {
    name: value
    for name, value in _variables(params).items()
    if not any(
      part in name
      for part in ('transformation', 'extra_output', 'bottleneck/attention')
    )
  }
  monkeypatch.setitem(source._READERS, 'tf1', lambda _: variables)
  loaded = load_pretrained(PRETRAINING, tmp_path)
  body = 'mobilebert/encoder/layers/bottleneck/attention'
  assert loaded.report.newly_initialised == (
    'mobilebert/embeddings/embedding_transformation/bias',
    'mobilebert/embeddings/embedding_transformation/kernel',
    f'{body}/dense/bias',
    f'{body}/dense/kernel',
    f'{body}/norm/bias',
    f'{body}/norm/scale',
  )
  assert_same_bits(loaded.params['predictions'], params['predictions'])


def test_layer_norm_models_and_the_older_classifier(tmp_path, monkeypatch):
  model, params = tiny(CLASSIFIER, normalization_type='layer_norm')
  _checkpoint_directory(tmp_path, model.config)
  variables = {
    ('classifier/' * name.startswith('output_'))
    + name.replace('FakeLayerNorm', 'LayerNorm'): value
    for name, value in _variables(params).items()
  }
  monkeypatch.setitem(source._READERS, 'tf1', lambda _: variables)
  assert_same_bits(load_pretrained(CLASSIFIER, tmp_path).params, params)


@pytest.mark.parity
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('version', ['V1', 'V2'])
def test_real_checkpoints_of_both_formats(version, tmp_path):
  tensorflow = pytest.importorskip('tensorflow')
  v1 = tensorflow.compat.v1
  model, params = tiny(classifier_activation=False)
  _checkpoint_directory(tmp_path, model.config)
  (tmp_path / 'model.ckpt.index').unlink()
  with v1.Graph().as_default(), v1.Session() as session:
    for name, value in _variables(params).items():
      v1.get_variable(name, initializer=tensorflow.constant(value))
    session.run(v1.global_variables_initializer())
    saver = v1.train.Saver(write_version=getattr(v1.train.SaverDef, version))
    saver.save(session, str(tmp_path / 'model.ckpt'))
  for name in ('', 'model.ckpt'):
    loaded = load_pretrained(PRETRAINING, tmp_path / name)
    assert loaded.report == LoadReport()
    assert_same_bits(loaded.params, params)


def test_config_beside_a_checkpoint(tmp_path):
  config = tiny_config()
  _checkpoint_directory(tmp_path, config)
  (tmp_path / 'tokenizer_config.json').write_text('{}')
  assert source.find(tmp_path).config.name.startswith('uncased')
  (tmp_path / 'bert_config.json').write_text('{}')
  assert source.find(tmp_path).config.name == 'bert_config.json'
