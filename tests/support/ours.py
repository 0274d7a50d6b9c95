"""Runs this package's models like `torch_reference`, for comparisons."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import mobilebert_jax as mb
from mobilebert_jax import losses, models
from mobilebert_jax.convert import mapping

Arrays = dict[str, np.ndarray]


def build(class_name: str, config: Mapping[str, Any], **compute: str) -> Any:
  """A model without dropout, unless the config says otherwise."""
  no_dropout = {'hidden_dropout_prob': 0.0, 'attention_probs_dropout_prob': 0.0}
  return getattr(mb, class_name)(
    mb.MobileBertConfig(**no_dropout | dict(config)),
    mb.Compute(**{'param_dtype': compute.get('dtype', 'float32'), **compute}),
  )


def flat_shapes(model: Any) -> dict[str, Any]:
  """Path -> shape and dtype of each parameter."""
  return traverse_util.flatten_dict(models.abstract_params(model), sep='/')


def params_from(model: Any, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Our parameters from a transformers state dict; nothing may be fresh."""
  shapes = flat_shapes(model)
  filled, report = mapping.to_params(state, shapes, model.config)
  assert not report.newly_initialised and not report.unused, report
  dtype = model.compute.param_dtype
  filled = {path: jnp.asarray(v, dtype) for path, v in filled.items()}
  return traverse_util.unflatten_dict(filled, sep='/')


def state_from(model: Any, params: Mapping[str, Any]) -> Arrays:
  """A transformers state dict, without second names of tied tensors."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return mapping.to_tensors(
    flat, flat_shapes(model), model.config, tied_copies=False
  )


def loss_terms(out: Any, labels: Mapping[str, Any], config: Any) -> Any:
  """The loss that transformers computes for this output."""
  match type(out).__name__:
    case 'MobileBertForPreTrainingOutput':
      return losses.pretraining_loss(
        out.prediction_logits, out.seq_relationship_logits, **labels
      )
    case 'MaskedLMOutput' | 'TokenClassifierOutput':
      return losses.token_loss(out.logits, **labels)
    case 'NextSentencePredictorOutput':
      return losses.next_sentence_loss(out.logits, **labels)
    case 'SequenceClassifierOutput':
      return losses.classification_loss(
        out.logits, labels['labels'], config.problem_type
      )
    case 'MultipleChoiceModelOutput':
      return losses.multiple_choice_loss(out.logits, **labels)
    case 'QuestionAnsweringModelOutput':
      return losses.question_answering_loss(
        out.start_logits, out.end_logits, **labels
      )
  raise AssertionError(type(out).__name__)


def run(
  model: Any,
  state: Mapping[str, np.ndarray],
  features: Mapping[str, np.ndarray],
  labels: Mapping[str, np.ndarray],
  *,
  gradients: bool = True,
) -> tuple[Arrays, Arrays]:
  """Outputs (with `loss`, if there are labels) and gradients by HF name."""
  params = params_from(model, state)
  labels = {name: jnp.asarray(value) for name, value in labels.items()}
  features = {name: jnp.asarray(value) for name, value in features.items()}

  def objective(params):
    out = model.apply(
      {'params': params},
      **features,
      output_hidden_states=True,
      output_attentions=True,
    )
    if labels:
      return losses.total(loss_terms(out, labels, model.config)), out
    loss = jnp.sum(jnp.square(out.last_hidden_state))
    if out.pooler_output is not None:
      loss = loss + jnp.sum(jnp.square(out.pooler_output))
    return loss, out

  if gradients:
    step = jax.jit(jax.value_and_grad(objective, has_aux=True))
    (loss, out), grads = step(params)
  else:
    loss, out = jax.jit(objective)(params)
  values = {}
  for name in out:
    if isinstance(out[name], tuple):
      for number, one in enumerate(out[name]):
        values[f'{name}.{number}'] = np.asarray(one)
    else:
      values[name] = np.asarray(out[name])
  if labels:
    values['loss'] = np.asarray(loss)
  return values, state_from(model, grads) if gradients else {}
