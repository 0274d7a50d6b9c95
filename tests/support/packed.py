"""One data set and one loss for every head, to batch in different ways."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax import losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.data.batching import features as features_lib
from mobilebert_jax.data.batching import loader
from mobilebert_jax.models import packing
from mobilebert_jax.training import evaluate, train_step

MAX_LENGTH = 16
CHOICES = 3
CONFIG = MobileBertConfig(
  vocab_size=32, hidden_size=16, intra_bottleneck_size=8, embedding_size=8,
  num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
  num_feedforward_networks=1, max_position_embeddings=MAX_LENGTH,
  hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2,
)  # fmt: skip
HEADS = {
  'pretraining': models.MobileBertForPreTraining,
  'masked_lm': models.MobileBertForMaskedLM,
  'next_sentence': models.MobileBertForNextSentencePrediction,
  'classification': models.MobileBertForSequenceClassification,
  'choice': models.MobileBertForMultipleChoice,
  'tags': models.MobileBertForTokenClassification,
  'spans': models.MobileBertForQuestionAnswering,
}


def make_features(head='classification', count=12, longest=MAX_LENGTH, seed=0):
  """Random examples; the first is as long as `longest` allows."""
  rng = np.random.default_rng(seed)
  choices = CHOICES if head == 'choice' else None
  lengths = rng.integers(2, longest + 1, count * (choices or 1))
  # Mostly short ones: several of them share a row.
  lengths = np.where(rng.random(len(lengths)) < 0.6, 2 + lengths // 4, lengths)
  lengths[0] = longest
  ids = [rng.integers(1, 32, n).tolist() for n in lengths]
  types = [[0] * (n // 2) + [1] * (n - n // 2) for n in lengths]
  sequences = {'input_ids': ids, 'token_type_ids': types}
  pad = {'input_ids': 0, 'token_type_ids': 0}
  scalars = {}
  if head in ('pretraining', 'masked_lm', 'tags'):
    classes = 2 if head == 'tags' else 32
    tags = [rng.integers(0, classes, n) for n in lengths]
    sequences['labels'] = [
      np.where(rng.random(len(row)) < 0.3, -100, row).tolist() for row in tags
    ]
    pad['labels'] = -100
  elif head == 'spans':
    scalars['start_positions'] = rng.integers(0, lengths)
    scalars['end_positions'] = rng.integers(0, lengths)
  else:
    scalars['labels'] = rng.integers(0, 2, count)
  if head == 'pretraining':
    scalars['next_sentence_label'] = rng.integers(0, 2, count)
  if head == 'choice':
    mask = np.ones((count, CHOICES), np.int32)
    mask[rng.random(count) < 0.5, -1] = 0
    scalars['choice_mask'] = mask
  return features_lib.Features(
    {k: features_lib.Ragged.from_rows(v) for k, v in sequences.items()},
    {k: v.astype(np.int32) for k, v in scalars.items()},
    pad,
    choices,
    max_length=MAX_LENGTH,
  )


def batch_of(features, batching, **settings):
  """All examples in one batch, and where they are."""
  settings = {'batch_size': len(features)} | settings
  ((batch, placement),) = loader.eval_batches(
    features, batching=batching, **settings
  )
  return batch, placement


def loss(head, outputs, batch):
  """The head's loss, as a task would write it."""
  if head in ('masked_lm', 'tags'):
    weights = packing.token_weights(batch)
    return losses.token_loss(outputs.logits, batch['labels'], weights)
  if head == 'pretraining':
    return (
      *losses.masked_lm_loss(
        outputs.prediction_logits,
        batch['labels'],
        packing.token_weights(batch),
      ),
      *losses.next_sentence_loss(
        outputs.seq_relationship_logits,
        batch['next_sentence_label'],
        batch['weights'],
      ),
    )
  if head == 'spans':
    return losses.question_answering_loss(
      packing.example_logits(outputs.start_logits, batch),
      packing.example_logits(outputs.end_logits, batch),
      batch['start_positions'],
      batch['end_positions'],
      batch['weights'],
    )
  logits = outputs.logits
  if head == 'choice':
    lowest = jnp.finfo(logits.dtype).min
    logits = jnp.where(batch['choice_mask'] != 0, logits, lowest)
  return (losses.cross_entropy(logits, batch['labels'], batch['weights']),)


@functools.cache
def make_model(head, **compute):
  """The model of a head."""
  return HEADS[head](CONFIG, models.Compute(**compute))


def make_params(model):
  """Parameters away from their initial values; [PAD] is not zero."""
  leaves, tree = jax.tree.flatten(models.abstract_params(model))
  rng = np.random.default_rng(1)
  return tree.unflatten(
    [rng.normal(0.1, 0.4, x.shape).astype(x.dtype) for x in leaves]
  )


def by_example(outputs, placement, features):
  """The logits of one batch, one row for each example, in their order."""
  lengths, order = features.lengths(), np.argsort(placement.examples)
  found = {}
  for name, value in outputs.items():
    is_token = name in ('prediction_logits', 'start_logits', 'end_logits') or (
      name == 'token_logits'
    )
    if is_token:
      cut = evaluate.by_token({name: value}, placement, lengths)
    else:
      cut = evaluate.by_example({name: value}, placement)
    found[name] = cut[name][order]
  return found


def run(head, model, params, features, batching, **settings):
  """Loss, gradients and each example's logits of one batch."""
  batch, placement = batch_of(features, batching, **settings)

  def objective(params):
    outputs = model.apply({'params': params}, **train_step.model_inputs(batch))
    terms = loss(head, outputs, packing.per_example(batch))
    return losses.total(terms), outputs

  step = jax.jit(jax.value_and_grad(objective, has_aux=True))
  (value, outputs), grads = jax.device_get(step(params))
  logits = {name: np.asarray(outputs[name]) for name in outputs}
  if model.outputs_per == 'token' and 'logits' in logits:
    logits = {'token_logits': logits['logits']}
  return value, grads, by_example(logits, placement, features)
