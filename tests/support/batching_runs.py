"""Evaluates a task with a tiny model, whatever way its batches are made."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.models import partitioning
from mobilebert_jax.training.evaluate import Evaluator, Split
from tests.support import packed

# How batches are made, their size, and the devices that share them.
WAYS = (('padded', 32, 1), ('bucketed', 7, 1), ('packed', 32, 8))


def check(task, examples, tokenizer, max_length):
  """Loss, scores and logits do not depend on how batches are made.

  Returns:
    The scores.
  """
  features = task.encode(examples, tokenizer, max_length)
  split = Split('validation', tuple(examples), features)
  config = packed.CONFIG.replace(
    vocab_size=len(tokenizer),
    max_position_embeddings=max_length,
    **task.model_overrides(),
  )
  model = task.head(config)
  # The [PAD] row is not zero.
  params = packed.make_params(model)
  expected, logits = _evaluate(task, model, params, split, *WAYS[0])
  scale = max(1.0, np.abs(logits[logits > -1e30]).max())
  loss = expected.pop('validation/loss')
  for way in WAYS[1:]:
    scores, found = _evaluate(task, model, params, split, *way)
    chex.assert_trees_all_close(found, logits, rtol=0, atol=1e-5 * scale)
    assert scores.pop('validation/loss') == pytest.approx(loss, rel=1e-5)
    assert scores == expected
  return expected


def _evaluate(task, model, params, split, batching, batch_size, devices):
  """(scores with the loss, each example's logits) of a split."""
  config = TrainConfig(
    task=task.name,
    num_steps=1,
    eval_batch_size=batch_size,
    data=DataConfig(
      batching=batching, max_length=split.features.max_length, source='tfds'
    ),
  )
  seen = []

  def score(predictions, examples, features):
    seen.append(predictions['logits'])
    return task.score(predictions, examples, features)

  chosen = np.array(jax.devices()[:devices]).reshape(devices, 1, 1)
  mesh = jax.sharding.Mesh(chosen, partitioning.MESH_AXES)
  with jax.set_mesh(mesh):
    watched = dataclasses.replace(task, score=score)
    evaluator = Evaluator(watched, model, mesh, config)
    return evaluator.scores(params, [split]), seen[0]
