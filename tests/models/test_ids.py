"""Ids beyond a table are told, wherever their values are known."""

import jax
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.convert.pretrained import (
  resize_token_embeddings,
  save_pretrained,
)
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.models.embeddings import check_ids
from mobilebert_jax.pipelines.base import ItemError
from mobilebert_jax.pipelines.text_classification import TextClassification
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import starting
from tests.support.convert_models import tiny, tiny_config

_IDS = np.array([[2, 5, 3]])
_TOKENIZER = MobileBertTokenizerFast('[PAD] [UNK] [CLS] [SEP] a [MASK]'.split())


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'input_ids': np.array([[2, 60, 3]])}, 'input_ids has 60, but there are'),
    ({'input_ids': np.array([[2, -1, 3]])}, 'input_ids has -1'),
    ({'token_type_ids': np.array([[0, 2, 0]])}, 'must be from 0 to 1'),
    ({'position_ids': np.array([[0, 20, 1]])}, 'there are 20 positions'),
    ({'masked_positions': np.array([[3]])}, 'masked_positions has 3'),
  ],
)
def test_an_eager_call_raises(change, message):
  model, params = tiny(models.MobileBertForMaskedLM)
  with pytest.raises(InputError, match=message):
    model.apply({'params': params}, **{'input_ids': _IDS, **change})


def test_what_is_traced_cannot_be_looked_at():
  jax.eval_shape(
    lambda ids: check_ids('x', ids, 2, 'rows'),
    jax.ShapeDtypeStruct((1,), np.int32),
  )
  check_ids('x', jax.numpy.array([1, 0]), 2, 'rows')
  check_ids('x', np.zeros((0,), int), 2, 'rows')
  with pytest.raises(InputError, match='x has 2'):
    check_ids('x', jax.numpy.array([2, 0]), 2, 'rows')


def test_encoded_examples_are_checked_before_a_run():
  def features(ids, types):
    offsets = np.array([0, len(ids)])
    columns = {'input_ids': ids, 'token_type_ids': types}
    return Features(
      {k: Ragged(np.array(v, np.int32), offsets) for k, v in columns.items()},
      {}, dict.fromkeys(columns, 0), max_length=8,
    )  # fmt: skip

  config = tiny_config(type_vocab_size=1)
  starting.check_ids(config, 'train', features([1, 59], [0, 0]))
  with pytest.raises(InputError, match=r'input_ids of the split .* has 60'):
    starting.check_ids(config, 'train', features([1, 60], [0, 0]))
  with pytest.raises(InputError, match=r'has 1, but the .* 1 \(type_vocab'):
    starting.check_ids(config, 'train', features([1, 2], [0, 1]))


def test_a_vocabulary_is_not_cut_below_its_tokenizer(tmp_path):
  pair = tiny()
  with pytest.raises(InputError, match='has 6 tokens, but the model only 5'):
    resize_token_embeddings(*pair, 5, tokenizer=_TOKENIZER)
  model, params = resize_token_embeddings(*pair, 5)
  with pytest.raises(InputError, match='ids would have no word vector'):
    save_pretrained(tmp_path / 'm', model, params, _TOKENIZER)
  assert not (tmp_path / 'm').exists()
  kept, _ = resize_token_embeddings(*pair, 6, tokenizer=_TOKENIZER)
  assert kept.config.vocab_size == 6


def test_a_pair_for_a_model_of_single_texts():
  model, params = tiny(
    models.MobileBertForSequenceClassification, type_vocab_size=1
  )
  pipe = TextClassification(model, params, _TOKENIZER)
  with pytest.raises(ItemError, match='is a pair of texts'):
    pipe([{'text': 'a', 'text_pair': 'a'}])
