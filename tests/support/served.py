"""Tiny models to serve, with parameters that nothing has trained tame."""

import functools

import jax
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.inference import folding
from mobilebert_jax.inference.graph import NO_MORE, Outputs
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

TINY = {
  'vocab_size': 40, 'hidden_size': 16, 'embedding_size': 8,
  'intra_bottleneck_size': 8, 'num_hidden_layers': 2, 'num_attention_heads': 2,
  'intermediate_size': 12, 'num_feedforward_networks': 2,
  'max_position_embeddings': 12,
}  # fmt: skip
HEADS = (
  'MobileBertModel',
  'MobileBertForPreTraining',
  'MobileBertForMaskedLM',
  'MobileBertForNextSentencePrediction',
  'MobileBertForSequenceClassification',
  'MobileBertForMultipleChoice',
  'MobileBertForTokenClassification',
  'MobileBertForQuestionAnswering',
)
# Every wiring and table that a file may have, each with another activation.
FLAGS = (
  {'normalization_type': 'layer_norm', 'hidden_act': 'gelu'},
  {'trigram_input': False, 'hidden_act': 'gelu_new'},
  {'use_bottleneck_attention': True, 'hidden_act': 'silu'},
  {'key_query_shared_bottleneck': False, 'hidden_act': 'mish'},
  {'use_bottleneck': False, 'hidden_act': 'xielu'},
  {'tie_word_embeddings': False, 'hidden_act': 'prelu'},
  {'embedding_size': 16, 'hidden_act': 'relu6'},
)
EVERYTHING = Outputs(hidden_states=True, attentions=True, pooler=True)


def make(head, *, zeros=0.0, dtype='float64', **changes):
  """A model and its parameters: scales of either sign, biases everywhere.

  Args:
    head: the class's name.
    zeros: share of the norms' scales that are 0.
    dtype: of parameters and computation.
    **changes: of TINY.
  """
  config = MobileBertConfig(**{**TINY, **changes})
  compute = models.Compute(dtype=dtype, param_dtype=dtype)
  model = getattr(models, head)(config, compute)
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = path[-1].key
    if name == 'scale':
      value = rng.uniform(0.7, 1.3, leaf.shape)
      value *= rng.choice([-1, 1], leaf.shape, p=[0.1, 0.9])
      return value * (rng.random(leaf.shape) >= zeros)
    if name == 'bias':
      return rng.normal(0, 0.3, leaf.shape)
    return rng.normal(0.25 if leaf.shape[-1:] == (1,) else 0, 0.2, leaf.shape)

  shapes = models.abstract_params(model)
  params = jax.tree_util.tree_map_with_path(draw, shapes)
  return model, jax.tree.map(lambda x: np.asarray(x, dtype), params)


WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] paris is the capital of france . , ? where '
  'i live in berlin a b c good bad film was not who wrote it ada'
).split()


def fold(head, outputs=NO_MORE, **changes):
  """The served form of a tiny model, in float32."""
  model, params = make(head, dtype='float32', **changes)
  return folding.fold(head, model.config, params, outputs)


def assert_close(result, wanted, tolerance=1e-5):
  """A file's outputs are those of NumPy in float64, as a part of the largest.

  Args:
    result: the file's outputs.
    wanted: the right ones.
    tolerance: for values above 1, as a part of the largest.
  """
  assert {*result} == {*wanted}
  for name, value in wanted.items():
    assert result[name].shape == value.shape, name
    assert result[name].dtype == np.float32
    scale = max(1.0, np.abs(value).max())
    np.testing.assert_allclose(
      result[name] / scale, value / scale, rtol=0, atol=tolerance, err_msg=name
    )


def write(directory, head, **changes):
  """Writes a tiny model with a tokenizer of WORDS; returns the directory."""
  changes = {'max_position_embeddings': 32, **changes}
  model, params = make(head, dtype='float32', **changes)
  save_pretrained(directory, model, params, MobileBertTokenizerFast(WORDS))
  return directory


def make_batch(head, *, rows=3, length=7, vocab=40, seed=1):
  """Random ids, segments and masks; the last row is hidden altogether."""
  rng = np.random.default_rng(seed)
  shape = (rows, length)
  if head == 'MobileBertForMultipleChoice':
    shape = (rows, 2, length)
  mask = (rng.random(shape) > 0.3).astype(np.int32)
  mask[-1] = 0
  return {
    'input_ids': rng.integers(0, vocab, shape, np.int32),
    'attention_mask': mask,
    'token_type_ids': rng.integers(0, 2, shape, np.int32),
  }


@functools.partial(jax.jit, static_argnums=(0, 3))
def _apply(model, params, batch, everything):
  return model.apply(
    {'params': params},
    **batch,
    output_hidden_states=everything,
    output_attentions=everything,
  )


def expected(model, params, batch, *, everything=False):
  """The model's outputs by the names that a served model has."""
  outputs = _apply(model, params, batch, everything)
  flat = {}
  for name in outputs.keys():
    value = outputs[name]
    if isinstance(value, tuple):
      flat |= {f'{name}.{i}': np.asarray(x) for i, x in enumerate(value)}
    else:
      flat[name] = np.asarray(value)
  return flat


def add_offsets(params, size, seed=2):
  """Gives the channels of the stream large constants that readers take away.

  The published checkpoint has such channels. In exact arithmetic the model is
  the same; in float32 what readers subtract is lost in rounding.

  Args:
    params: of MobileBertForSequenceClassification with the NoNorm wiring of
      MobileBERT; changed in place.
    size: standard deviation of the constants.
    seed: of the constants.
  """
  rng = np.random.default_rng(seed)
  body = params['mobilebert']
  layers = body['encoder']['layers']
  scale = layers['output_bottleneck']['norm']['scale']
  constants = rng.normal(0, size, (scale.shape[0] + 1, scale.shape[1]))
  body['embeddings']['norm']['bias'] += constants[0]
  readers = (
    layers['bottleneck']['input']['dense'],
    layers['bottleneck']['attention']['dense'],
    layers['attention']['value'],
  )
  for i, constant in enumerate(constants[:-1]):
    for dense in readers:
      dense['bias'][i] -= constant @ dense['kernel'][i]
    shift = constants[i + 1] - scale[i] * constant
    layers['output_bottleneck']['norm']['bias'][i] += shift
  body['pooler']['bias'] -= constants[-1] @ body['pooler']['kernel']
