"""Runs transformers' MobileBERT: values, loss and gradients as numpy arrays."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers

from tests.support import cases

Arrays = dict[str, np.ndarray]


def build(
  class_name: str,
  config: Mapping[str, Any],
  *,
  dtype: torch.dtype = torch.float64,
  std: float = 0.1,
) -> torch.nn.Module:
  """A model in evaluation mode whose weights `cases.weight` gives."""
  reference = transformers.MobileBertConfig(
    **{'hidden_dropout_prob': 0.0, 'attention_probs_dropout_prob': 0.0}
    | dict(config)
  )
  if 'problem_type' in config:
    reference.problem_type = config['problem_type']
  reference._attn_implementation = 'eager'
  with warnings.catch_warnings():
    # With embedding_size == hidden_size the decoder's second half is empty.
    warnings.filterwarnings('ignore', 'Initializing zero-element tensors')
    model = getattr(transformers, class_name)(reference)
  _size_by_input(model, reference)
  model = model.to(dtype).eval()
  with torch.no_grad():
    for name, tensor in model.state_dict(keep_vars=True).items():
      # Tied tensors have one value: the first name's.
      values = cases.weight(_first_name(name, reference), tensor.shape, std)
      tensor.copy_(torch.from_numpy(np.asarray(values)))
  return model


def _first_name(name: str, config: Any) -> str:
  name = name.removeprefix('mobilebert.')
  if config.tie_word_embeddings:
    return {
      'cls.predictions.decoder.weight': 'embeddings.word_embeddings.weight',
      'cls.predictions.decoder.bias': 'cls.predictions.bias',
    }.get(name, name)
  return name


def _size_by_input(model: torch.nn.Module, config: Any) -> None:
  """Gives queries and keys the width of what they read.

  transformers sizes them by `true_hidden_size` and then feeds `hidden_size`
  when neither the bottleneck of keys and queries nor the bottleneck of
  attention is on, so that it cannot run the IB-BERT teacher.
  """
  narrow = config.key_query_shared_bottleneck or config.use_bottleneck_attention
  if not config.use_bottleneck or narrow:
    return
  base = getattr(model, 'mobilebert', model)
  for layer in base.encoder.layer:
    for name in ('query', 'key'):
      linear = torch.nn.Linear(config.hidden_size, config.true_hidden_size)
      setattr(layer.attention.self, name, linear)


def state(model: torch.nn.Module) -> Arrays:
  """The state dict as numpy arrays."""
  return {k: v.detach().numpy() for k, v in model.state_dict().items()}


def run(
  model: torch.nn.Module,
  features: Mapping[str, np.ndarray],
  labels: Mapping[str, np.ndarray],
  *,
  gradients: bool = True,
) -> tuple[Arrays, Arrays]:
  """Outputs (with `loss`, if there are labels) and gradients by HF name.

  Without labels the gradient is that of the sum of squares of the last hidden
  state and the pooled output.
  """
  dtype = next(model.parameters()).dtype

  def tensor(value):
    value = torch.from_numpy(np.ascontiguousarray(value))
    return value.to(dtype) if value.is_floating_point() else value

  model.zero_grad()
  out = model(
    **{name: tensor(value) for name, value in features.items()},
    **{name: tensor(value) for name, value in labels.items()},
    output_hidden_states=True,
    output_attentions=True,
  )
  values = {}
  for name, value in out.items():
    if isinstance(value, tuple):
      for number, one in enumerate(value):
        values[f'{name}.{number}'] = one.detach().numpy()
    else:
      values[name] = value.detach().numpy()
  if not gradients:
    return values, {}
  loss = (
    out.loss
    if labels
    else out.last_hidden_state.square().sum()
    + (0 if out.pooler_output is None else out.pooler_output.square().sum())
  )
  loss.backward()
  return values, {
    name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy()
    for name, p in model.named_parameters()
  }
