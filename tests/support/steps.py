"""A tiny classifier with batches, a loss and an optimizer, for single steps."""

import functools

import jax
import numpy as np

from mobilebert_jax import losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.training import optimizer

CONFIG = MobileBertConfig(
  vocab_size=32, hidden_size=16, intra_bottleneck_size=8, embedding_size=8,
  num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
  num_feedforward_networks=1, max_position_embeddings=16,
  hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3,
  normalization_type='layer_norm',
)  # fmt: skip


def loss(outputs, batch):
  return losses.classification_loss(
    outputs.logits,
    batch['labels'],
    'single_label_classification',
    batch['weights'],
  )


def make_batch(seed=0, size=32, length=8):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(3, length + 1, size)
  mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
  return {
    'input_ids': rng.integers(1, 32, (size, length)).astype(np.int32) * mask,
    'attention_mask': mask,
    'token_type_ids': np.zeros((size, length), np.int32),
    'labels': rng.integers(0, 3, size).astype(np.int32),
    'weights': rng.choice([0.0, 0.5, 1.0, 3.0], size).astype(np.float32),
  }


def make_model(config=CONFIG, **compute):
  compute = models.Compute(**compute)
  return models.MobileBertForSequenceClassification(config, compute)


@functools.cache
def draw_params(config):
  return models.init_params(make_model(config), jax.random.key(1))


ADAMW = optimizer.make_optimizer(
  OptimizerConfig(learning_rate=1e-2, warmup_steps=0), 10
)
