"""What is compared with the reference: configs, heads, weights and inputs.

Needs numpy alone, because both sides read it: the tests, and the script that
makes golden numbers in an environment of transformers. Weights are a function
of the tensor's name in transformers, so that no golden file must hold them.
"""

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

SMALL = {
  'vocab_size': 40,
  'hidden_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'intermediate_size': 24,
  'hidden_act': 'relu',
  'max_position_embeddings': 16,
  'embedding_size': 12,
  'intra_bottleneck_size': 16,
  'num_feedforward_networks': 3,
  'num_labels': 3,
}
# The published architecture at full size, with dropout and labels as tests
# need them.
FULL = {'classifier_activation': False, 'num_labels': 3}

_BOTTLENECKS = {
  'none': {'use_bottleneck': False},
  'shared': {},
  'unshared': {'key_query_shared_bottleneck': False},
  'attention': {'use_bottleneck_attention': True},
  'attention_unshared': {
    'use_bottleneck_attention': True,
    'key_query_shared_bottleneck': False,
  },
}


def flag_cases() -> dict[str, dict[str, Any]]:
  """Every combination of the architecture's switches."""
  cases = {}
  for number, (trigram, bottleneck, networks, norm, pooler) in enumerate(
    itertools.product(
      (True, False),
      _BOTTLENECKS,
      (1, 3),
      ('no_norm', 'layer_norm'),
      (True, False),
    )
  ):
    # Tying is independent of the rest: alternate instead of doubling.
    tied = number % 3 != 0
    name = (
      f'{"trigram" if trigram else "single"}-{bottleneck}-ffn{networks}-{norm}'
      f'-{"pooler" if pooler else "raw"}-{"tied" if tied else "untied"}'
    )
    cases[name] = {
      'trigram_input': trigram,
      **_BOTTLENECKS[bottleneck],
      'num_feedforward_networks': networks,
      'normalization_type': norm,
      'classifier_activation': pooler,
      'tie_word_embeddings': tied,
    }
  cases['equal_widths_single'] = {
    'trigram_input': False,
    'embedding_size': SMALL['hidden_size'],
  }
  cases['equal_widths_trigram'] = {'embedding_size': SMALL['hidden_size']}
  cases['no_pad_row'] = {'pad_token_id': None}
  cases['eps'] = {'normalization_type': 'layer_norm', 'layer_norm_eps': 0.1}
  return cases


def few_flag_cases() -> list[str]:
  """Some of them: each two switches meet in each pair of their values.

  The cases that are no combination of switches are all there.
  """
  left = {
    name: set(itertools.combinations(enumerate(name.split('-')), 2))
    for name in flag_cases()
  }
  few = [name for name, pairs in left.items() if not pairs]
  while any(left.values()):
    few.append(max(left, key=lambda name: len(left[name])))
    seen = set(left[few[-1]])
    left = {name: pairs - seen for name, pairs in left.items()}
  return few


def activation_cases(names) -> dict[str, dict[str, Any]]:
  """One config for each activation."""
  return {f'act_{name}': {'hidden_act': name} for name in names}


# Head -> the reference's class, and how its labels are called.
HEADS: Mapping[str, str] = {
  'model': 'MobileBertModel',
  'pretraining': 'MobileBertForPreTraining',
  'masked_lm': 'MobileBertForMaskedLM',
  'next_sentence': 'MobileBertForNextSentencePrediction',
  'classification': 'MobileBertForSequenceClassification',
  'regression': 'MobileBertForSequenceClassification',
  'multi_label': 'MobileBertForSequenceClassification',
  'multiple_choice': 'MobileBertForMultipleChoice',
  'token': 'MobileBertForTokenClassification',
  'question_answering': 'MobileBertForQuestionAnswering',
}


def head_config(head: str) -> dict[str, Any]:
  """What a head asks of the config."""
  return {
    'regression': {'num_labels': 1},
    'question_answering': {'num_labels': 2},
  }.get(head, {})


def _rng(*words: Any) -> np.random.Generator:
  return np.random.default_rng([zlib.crc32(str(w).encode()) for w in words])


def weight(name: str, shape: tuple[int, ...], std: float) -> np.ndarray:
  """A tensor's values: scales near one, everything else around zero."""
  values = _rng(name).standard_normal(shape)
  if name.endswith('LayerNorm.weight'):
    return 1.0 + 0.1 * values
  if name.endswith('bias'):
    return 0.1 * values
  return std * values


def inputs(
  config: Mapping[str, Any], head: str, batch: int = 3, length: int = 7
) -> tuple[Arrays, Arrays]:
  """A batch for a head, and its labels under transformers' names."""
  rng = _rng('inputs', head, batch, length)
  vocab = config.get('vocab_size', 30522)
  shape = (batch, length)
  if head == 'multiple_choice':
    shape = (batch, 4, length)
  ids = rng.integers(1, vocab, shape)
  lengths = rng.integers(3, length + 1, shape[:-1])
  mask = (np.arange(length) < lengths[..., None]).astype(np.int64)
  features = {
    'input_ids': ids * mask,
    'attention_mask': mask,
    'token_type_ids': rng.integers(0, 2, shape),
  }
  return features, _labels(rng, head, vocab, batch, length)


def _labels(rng, head, vocab, batch, length) -> Arrays:
  ids = rng.integers(0, vocab, (batch, length))
  some = np.where(rng.random((batch, length)) < 0.5, ids, -100)
  some[0, 0] = 1
  match head:
    case 'pretraining':
      following = rng.integers(0, 2, batch)
      return {'labels': some, 'next_sentence_label': following}
    case 'masked_lm':
      return {'labels': some}
    case 'next_sentence':
      return {'labels': rng.integers(0, 2, batch)}
    case 'classification':
      return {'labels': rng.integers(0, 3, batch)}
    case 'regression':
      return {'labels': rng.standard_normal(batch)}
    case 'multi_label':
      return {'labels': rng.integers(0, 2, (batch, 3)).astype(np.float64)}
    case 'multiple_choice':
      return {'labels': rng.integers(0, 4, batch)}
    case 'token':
      return {'labels': np.where(some >= 0, some % 3, -100)}
    case 'question_answering':
      # One negative and one beyond the end: clamped and ignored.
      start = np.array([2, length + 3, 1] + [0] * batch)[:batch]
      end = np.array([3, -2, length + 9] + [1] * batch)[:batch]
      return {'start_positions': start, 'end_positions': end}
  return {}


def input_cases(config: Mapping[str, Any]) -> dict[str, Arrays]:
  """Unusual inputs of the bare model, beside `inputs`."""
  rng = _rng('input cases')
  features, _ = inputs(config, 'model')
  ids, mask = features['input_ids'], features['attention_mask']
  batch, length = ids.shape
  embeds = rng.standard_normal((batch, length, config['embedding_size']))
  pairs = rng.integers(0, 2, (batch, length, length))
  pairs[0, 0] = 0
  additive = np.where(rng.random((batch, 1, length, length)) < 0.3, -1e3, 0.0)
  empty = mask.copy()
  empty[1] = 0
  layers, heads = config['num_hidden_layers'], config['num_attention_heads']
  return {
    'ids_alone': {'input_ids': ids},
    'one_token': {'input_ids': ids[:, :1]},
    'longest': {
      'input_ids': rng.integers(0, 40, (2, config['max_position_embeddings']))
    },
    'embeds': {'inputs_embeds': embeds, 'attention_mask': mask},
    'positions': {
      'input_ids': ids,
      'position_ids': rng.integers(0, 16, (1, length)),
    },
    'positions_per_row': {
      'input_ids': ids,
      'position_ids': rng.integers(0, 16, (batch, length)),
    },
    'empty_row': {'input_ids': ids, 'attention_mask': empty},
    'additive_mask': {'input_ids': ids, 'attention_mask': additive},
    # transformers 5 ignores or refuses these; 4.49 has them.
    'v4_pair_mask': {'input_ids': ids, 'attention_mask': pairs},
    'v4_head_mask': {
      **features,
      'head_mask': rng.random(heads),
    },
    'v4_head_mask_per_layer': {
      **features,
      'head_mask': rng.integers(0, 2, (layers, heads)).astype(np.float64),
    },
  }


def project(name: str, values: np.ndarray) -> float:
  """A random projection of a tensor, which moves as its values do."""
  values = np.asarray(values, np.float64).ravel()
  vector = _rng('project', name).standard_normal(values.size)
  return float(vector @ values / max(values.size, 1) ** 0.5)


def largest(values: np.ndarray) -> float:
  """The largest magnitude in a tensor; 0 for an empty one."""
  return float(np.max(np.abs(values), initial=0.0))


def digest(values: Arrays, grads: Arrays) -> np.ndarray:
  """One case as a row of numbers, tensors in the order of their names.

  For each value its largest magnitude and a projection; then the largest
  gradient of the model and a projection of each gradient.
  """
  numbers = []
  for name in sorted(values):
    numbers += [largest(values[name]), project(name, values[name])]
  if grads:
    numbers.append(max(largest(grad) for grad in grads.values()))
    numbers += [project(name, grads[name]) for name in sorted(grads)]
  return np.array(numbers)
