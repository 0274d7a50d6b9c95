"""Configs as they are found: read, or refused by the name of what is wrong."""

import json
import logging

import pytest

from mobilebert_jax.config import model_json
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.runtime.errors import InputError
from tests.support import mutants

_CONFIG = MobileBertConfig.mobilebert(id2label={0: 'no', 1: 'yes'})


def _values(**changes):
  return {**model_json.to_dict(_CONFIG, ('MobileBertModel',)), **changes}


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('add_cross_attention', True),
    ('is_decoder', True),
    ('is_encoder_decoder', True),
    ('position_embedding_type', 'relative_key'),
    ('pruned_heads', {'0': [1]}),
    ('quantization_config', {'load_in_8bit': True}),
  ],
)
def test_settings_that_would_give_other_numbers(name, value, tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(_values(**{name: value})))
  with pytest.raises(InputError, match=f'{name} is .*not supported'):
    model_json.load_config(path)


def test_the_same_settings_switched_off(caplog):
  values = _values(
    is_decoder=False, pruned_heads={}, position_embedding_type='absolute',
    quantization_config=None, add_cross_attention=None,
  )  # fmt: skip
  assert model_json.from_dict(values) == _CONFIG
  assert not caplog.records


@pytest.mark.parametrize('ids', [{'no': 1, 'yes': 0}, {'a': 0, 'b': 1}])
def test_label2id_that_contradicts_id2label(ids, caplog):
  with caplog.at_level(logging.WARNING):
    config = model_json.from_dict(_values(label2id=ids))
  assert config.label2id == {'no': 0, 'yes': 1}
  assert 'contradicts id2label, which counts: 0 no, 1 yes' in caplog.text


def test_a_byte_order_mark(tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(_values()), encoding='utf-8-sig')
  assert model_json.load_config(path) == _CONFIG


def _counts(tmp_path, count):
  original = json.dumps(_values(), indent=2).encode()
  return mutants.fuzz(
    model_json.load_config, original, tmp_path / 'config.json', count
  )


def test_damaged_configs(tmp_path):
  counts = _counts(tmp_path, mutants.FEW)
  assert counts['refused'] and sum(counts.values()) == mutants.FEW


@pytest.mark.long
def test_many_damaged_configs(tmp_path):
  print(dict(_counts(tmp_path, mutants.ALL)))
