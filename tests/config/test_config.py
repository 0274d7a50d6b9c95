"""The config: defaults, presets, both JSON formats, validation."""

import copy
import dataclasses
import json
import pickle

import pytest

from mobilebert_jax import InputError, MobileBertConfig
from mobilebert_jax.config import model_json
from mobilebert_jax.config.model import ACTIVATIONS

# google-research's released files, as reference/original-system tells them.
_GOOGLE_STUDENT = {
  'attention_probs_dropout_prob': 0.1,
  'classifier_activation': False,
  'embedding_size': 128,
  'hidden_act': 'relu',
  'hidden_dropout_prob': 0.0,
  'hidden_size': 512,
  'initializer_range': 0.02,
  'intermediate_size': 512,
  'intra_bottleneck_size': 128,
  'key_query_shared_bottleneck': True,
  'max_position_embeddings': 512,
  'normalization_type': 'no_norm',
  'num_attention_heads': 4,
  'num_feedforward_networks': 4,
  'num_hidden_layers': 24,
  'trigram_input': True,
  'type_vocab_size': 2,
  'use_bottleneck': True,
  'vocab_size': 30522,
}
_ABSENT_IN_TEACHER = (
  'classifier_activation',
  'key_query_shared_bottleneck',
  'normalization_type',
  'num_feedforward_networks',
)
_GOOGLE_TEACHER = {
  **{k: v for k, v in _GOOGLE_STUDENT.items() if k not in _ABSENT_IN_TEACHER},
  'hidden_act': 'gelu',
  'hidden_dropout_prob': 0.1,
  'intermediate_size': 4096,
  'intra_bottleneck_size': 1024,
}
_GOOGLE_TINY = {
  **{
    k: v
    for k, v in _GOOGLE_STUDENT.items()
    if k != 'key_query_shared_bottleneck'
  },
  'num_feedforward_networks': 2,
  'use_bottleneck_attention': True,
}


def test_defaults_are_transformers():
  config = MobileBertConfig()
  assert config.classifier_activation and config.key_query_shared_bottleneck
  assert config.true_hidden_size == 128 and config.head_dim == 32
  assert config.id2label == {0: 'LABEL_0', 1: 'LABEL_1'}
  assert config.num_labels == 2


@pytest.mark.parametrize(
  'values,preset',
  [
    (_GOOGLE_STUDENT, MobileBertConfig.mobilebert),
    (_GOOGLE_TEACHER, MobileBertConfig.ib_bert_large),
    (_GOOGLE_TINY, MobileBertConfig.mobilebert_tiny),
  ],
)
def test_presets_are_google_research(values, preset):
  assert model_json.from_dict(values) == preset()


def test_missing_keys_mean_another_thing_in_each_format():
  values = {'vocab_size': 100, 'hidden_size': 64, 'num_attention_heads': 4}
  google = model_json.from_dict(values, 'google')
  assert google.embedding_size == 64 and google.intra_bottleneck_size == 64
  assert not google.use_bottleneck and not google.trigram_input
  assert google.normalization_type == 'layer_norm'
  assert google.type_vocab_size == 16 and google.hidden_act == 'gelu_new'
  assert google.num_feedforward_networks == 1
  values['embedding_size'] = 16
  ours = model_json.from_dict(values, 'transformers')
  assert ours.use_bottleneck and ours.trigram_input
  assert ours.normalization_type == 'no_norm' and ours.hidden_act == 'relu'


@pytest.mark.parametrize(
  'config',
  [
    MobileBertConfig(),
    MobileBertConfig.mobilebert(num_labels=3, problem_type='regression'),
    MobileBertConfig.ib_bert_large(id2label={0: 'no', 1: 'yes'}),
    MobileBertConfig(pad_token_id=None, classifier_dropout=0.2),
    MobileBertConfig(tie_word_embeddings=False, use_bottleneck=False),
    MobileBertConfig(
      task_specific_params={
        'question-answering': {'doc_stride': 128, 'null_score_threshold': None},
        'another': {'list': [1, {'deep': 2}]},
      }
    ),
  ],
)
def test_transformers_json_round_trip(config, tmp_path):
  path = model_json.save_config(config, tmp_path, ['MobileBertModel'])
  values = json.loads(path.read_text())
  assert values['model_type'] == 'mobilebert'
  assert values['true_hidden_size'] == config.true_hidden_size
  assert model_json.load_config(tmp_path) == config


@pytest.mark.parametrize(
  'preset',
  [
    MobileBertConfig.mobilebert,
    MobileBertConfig.mobilebert_tiny,
    MobileBertConfig.mobilebert_without_opt,
    MobileBertConfig.ib_bert_large,
  ],
)
def test_google_json_round_trip(preset):
  values = model_json.to_google_dict(preset())
  assert model_json.detect_format(values) == 'google'
  assert model_json.from_dict(values) == preset()


def test_google_cannot_say_everything():
  for config in (
    MobileBertConfig(hidden_act='gelu'),
    MobileBertConfig(hidden_act='mish'),
    MobileBertConfig(tie_word_embeddings=False),
  ):
    with pytest.raises(InputError, match='google-research'):
      model_json.to_google_dict(config)


@pytest.mark.data
def test_a_published_derivative(shared_data):
  path = shared_data / 'configs' / 'hf-mobilebert-derivative-config.json'
  config = model_json.load_config(path)
  assert config == MobileBertConfig.mobilebert(num_hidden_layers=20)


def test_usage_is_frozen_and_hashable():
  usage = {'question-answering': {'doc_stride': 128}}
  config = MobileBertConfig(task_specific_params=usage)
  assert config.task_specific_params == usage and hash(config)
  usage['question-answering']['doc_stride'] = 1
  assert config.task_specific_params['question-answering']['doc_stride'] == 128
  with pytest.raises(TypeError):
    config.task_specific_params['question-answering']['doc_stride'] = 1
  assert 'task_specific_params' not in model_json.to_dict(MobileBertConfig())
  with pytest.raises(InputError, match='task_specific_params'):
    MobileBertConfig(task_specific_params=3)


def test_unknown_keys_are_told(caplog):
  values = {'model_type': 'mobilebert', 'num_hidden_layer': 3, 'use_cache': 1}
  model_json.from_dict(values)
  assert 'num_hidden_layer' in caplog.text and 'use_cache' not in caplog.text


def test_is_frozen_and_hashable():
  config = MobileBertConfig(num_labels=3)
  assert hash(config) == hash(MobileBertConfig(num_labels=3))
  with pytest.raises(dataclasses.FrozenInstanceError):
    config.hidden_size = 3
  with pytest.raises(TypeError, match='replace'):
    config.id2label[0] = 'x'
  assert copy.deepcopy(config) == config
  assert pickle.loads(pickle.dumps(config)) == config


def test_replace_keeps_labels_consistent():
  config = MobileBertConfig(id2label={0: 'a', 1: 'b', 2: 'c'})
  assert config.replace(hidden_size=256).id2label == config.id2label
  assert config.replace(num_labels=5).id2label[4] == 'LABEL_4'
  relabelled = config.replace(id2label={0: 'x'})
  assert relabelled.num_labels == 1 and relabelled.label2id == {'x': 0}


def test_label2id_alone_is_enough():
  config = MobileBertConfig(label2id={'no': 0, 'yes': 1})
  assert config.id2label == {0: 'no', 1: 'yes'}


@pytest.mark.parametrize('act', ACTIVATIONS)
def test_every_activation_is_accepted(act):
  assert MobileBertConfig(hidden_act=act).hidden_act == act


@pytest.mark.parametrize(
  'values,words',
  [
    ({'hidden_size': '512'}, ['hidden_size', "'512'", 'whole number']),
    ({'hidden_size': 512.0}, ['hidden_size', 'whole number']),
    ({'num_hidden_layers': True}, ['num_hidden_layers', 'whole number']),
    ({'num_hidden_layers': 0}, ['num_hidden_layers', 'at least 1']),
    ({'num_attention_heads': 5}, ['divisor of intra_bottleneck_size (128)']),
    (
      {'num_attention_heads': 5, 'use_bottleneck': False},
      ['divisor of hidden_size (512)'],
    ),
    ({'hidden_act': 'swiglu'}, ['hidden_act', 'gelu', 'relu6']),
    ({'hidden_act': 3}, ['hidden_act', 'string']),
    ({'normalization_type': 'rms'}, ['no_norm, layer_norm']),
    ({'hidden_dropout_prob': 1.0}, ['hidden_dropout_prob', 'below 1']),
    ({'attention_probs_dropout_prob': -0.1}, ['at least 0']),
    ({'classifier_dropout': 'none'}, ['classifier_dropout', 'or None']),
    ({'layer_norm_eps': 0}, ['layer_norm_eps', 'above 0']),
    ({'initializer_range': -1.0}, ['initializer_range', 'at least 0']),
    ({'pad_token_id': 30522}, ['pad_token_id', '30521']),
    ({'embedding_size': 513}, ['embedding_size', 'hidden_size (512)']),
    ({'num_feedforward_networks': 0}, ['num_feedforward_networks']),
    ({'use_bottleneck': 1}, ['use_bottleneck', 'True or False']),
    ({'problem_type': 'ranking'}, ['problem_type', 'regression']),
    ({'num_labels': 0}, ['num_labels', 'at least 1']),
    ({'num_labels': 3, 'id2label': {0: 'a'}}, ['num_labels', 'id2label (1)']),
    ({'id2label': {0: 'a', 2: 'b'}}, ['id2label', 'without gaps']),
    ({'id2label': ['a', 'b']}, ['id2label', 'mapping']),
  ],
)
def test_wrong_values(values, words):
  with pytest.raises(InputError) as error:
    MobileBertConfig(**values)
  for word in words:
    assert word in str(error.value)
  assert '\n' not in str(error.value)


def test_unknown_field_in_replace():
  with pytest.raises(InputError, match="no field 'layers'"):
    MobileBertConfig().replace(layers=3)


@pytest.mark.parametrize(
  'text,message',
  [
    (None, 'does not exist'),
    ('{', 'cannot be read as JSON'),
    ('[1]', 'no JSON object'),
    ('{"model_type": "bert"}', "must be 'mobilebert'"),
    ('{"hidden_size": 8}', 'lacks vocab_size'),
    ('{"model_type": "mobilebert", "hidden_act": "x"}', 'config.json: Mobile'),
  ],
)
def test_wrong_files(text, message, tmp_path):
  if text is not None:
    (tmp_path / 'config.json').write_text(text)
  with pytest.raises(InputError, match=message):
    model_json.load_config(tmp_path)


def test_wrong_format():
  with pytest.raises(InputError, match="'transformers' or 'google'"):
    model_json.from_dict({}, 'torch')
