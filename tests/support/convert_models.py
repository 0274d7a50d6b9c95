"""Tiny models with varied parameters, for the tests of conversion."""

import jax
import ml_dtypes
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert import source

CLASSES = tuple(source.MODEL_CLASSES.values())
BATCH = {
  'input_ids': np.array([[2, 7, 9, 11, 3], [2, 5, 3, 0, 0]], np.int32),
  'attention_mask': np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
  'token_type_ids': np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], np.int32),
}

# Every switch that changes which parameters there are, or their shapes.
FLAGS: tuple[dict, ...] = (
  {},
  {'classifier_activation': False},
  {'use_bottleneck': False, 'key_query_shared_bottleneck': False},
  {'use_bottleneck_attention': True},
  {'use_bottleneck_attention': True, 'key_query_shared_bottleneck': False},
  {'key_query_shared_bottleneck': False},
  {'trigram_input': False},
  {'trigram_input': False, 'embedding_size': 32},
  {'num_feedforward_networks': 1},
  {'normalization_type': 'layer_norm'},
  {'tie_word_embeddings': False},
  {'hidden_act': 'prelu'},
  # It squares: without norms, random weights overflow after a few of them.
  {'hidden_act': 'xielu', 'normalization_type': 'layer_norm'},
)


def tiny_config(**changes) -> MobileBertConfig:
  values = {
    'vocab_size': 60,
    'hidden_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
    'embedding_size': 12,
    'intra_bottleneck_size': 16,
    'num_feedforward_networks': 2,
    'max_position_embeddings': 20,
  }
  return MobileBertConfig(**{**values, **changes})


def random_params(model, seed=0, dtype='float32'):
  """Every parameter random, so that no two tensors can be swapped unseen."""
  rng = np.random.default_rng(seed)
  kind = ml_dtypes.bfloat16 if dtype == 'bfloat16' else np.dtype(dtype)
  return jax.tree.map(
    lambda leaf: (rng.normal(size=leaf.shape) * 0.3 + 0.2).astype(kind),
    models.abstract_params(model),
  )


def tiny(cls=models.MobileBertForPreTraining, seed=0, dtype='float32', **flags):
  model = cls(tiny_config(**flags))
  return model, random_params(model, seed, dtype)


def assert_same_bits(one, other):
  """Equal trees, dtypes and bits."""
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()
