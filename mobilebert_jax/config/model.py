"""`MobileBertConfig`: every size and switch of the architecture.

Field names, defaults and meanings are those of transformers'
`MobileBertConfig`; reading and writing JSON is `model_json.py`'s.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from mobilebert_jax.config import fields
from mobilebert_jax.runtime.errors import InputError

ACTIVATIONS = (
  'gelu',
  'gelu_10',
  'gelu_accurate',
  'gelu_fast',
  'gelu_new',
  'gelu_python',
  'gelu_python_tanh',
  'gelu_pytorch_tanh',
  'hardswish',
  'laplace',
  'leaky_relu',
  'linear',
  'mish',
  'prelu',
  'quick_gelu',
  'relu',
  'relu2',
  'relu6',
  'sigmoid',
  'silu',
  'sqrtsoftplus',
  'swish',
  'tanh',
  'xielu',
)
NORMALIZATIONS = ('no_norm', 'layer_norm')
PROBLEM_TYPES = (
  'regression',
  'single_label_classification',
  'multi_label_classification',
)


class FrozenMap(dict):
  """A dict that cannot change and therefore has a hash."""

  def __hash__(self) -> int:  # type: ignore[override]
    return hash(tuple(sorted(self.items())))

  def _refuse(self, *args, **kwargs):
    del args, kwargs
    raise TypeError('the labels of a config cannot be changed; use replace()')

  __setitem__ = __delitem__ = _refuse
  clear = pop = popitem = setdefault = update = __ior__ = _refuse

  def __copy__(self):
    return self

  def __deepcopy__(self, memo):
    del memo
    return self

  def __reduce__(self):
    return (FrozenMap, (dict(self),))


def _frozen(value: Any) -> Any:
  """Returns a JSON value in which nothing can change."""
  if isinstance(value, Mapping):
    return FrozenMap({key: _frozen(item) for key, item in value.items()})
  if isinstance(value, list | tuple):
    return tuple(_frozen(item) for item in value)
  return value


def _error(field: str, value: Any, allowed: str) -> InputError:
  return fields.wrong(f'MobileBertConfig.{field}', value, allowed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileBertConfig:
  """Architecture of a MobileBERT model (arXiv 2004.02984, Table 1).

  The defaults are transformers' defaults. They are *not* the published
  checkpoint, which has no pooler: that one is `MobileBertConfig.mobilebert()`.
  """

  vocab_size: int = fields.setting(
    30522,
    help='rows of the word table and columns of the MLM output',
    at_least=1,
  )
  hidden_size: int = fields.setting(
    512,
    help='inter-block width D: the stream between blocks, and the heads',
    at_least=1,
  )
  num_hidden_layers: int = fields.setting(
    24, help='number of blocks', at_least=1
  )
  num_attention_heads: int = fields.setting(
    4, help='heads in each block; must divide `true_hidden_size`', at_least=1
  )
  intermediate_size: int = fields.setting(
    512, help='inner width of every feed-forward network', at_least=1
  )
  hidden_act: str = fields.setting(
    'relu', help='activation of the feed-forward networks and the MLM transform'
  )
  hidden_dropout_prob: float = fields.setting(
    0.0, help='dropout of embeddings and block outputs', at_least=0, below=1
  )
  attention_probs_dropout_prob: float = fields.setting(
    0.1, help='dropout of the attention probabilities', at_least=0, below=1
  )
  max_position_embeddings: int = fields.setting(
    512, help='longest sequence', at_least=1
  )
  type_vocab_size: int = fields.setting(
    2, help='number of segment types', at_least=1
  )
  initializer_range: float = fields.setting(
    0.02, help='standard deviation of freshly drawn weights', at_least=0
  )
  layer_norm_eps: float = fields.setting(
    1e-12,
    help='epsilon of the norms that read it (see `models/layers.py`)',
    above=0,
  )
  pad_token_id: int | None = fields.setting(
    0,
    help='row of the word table that starts at zero and gets no gradient '
    'from look-ups, or None',
  )
  embedding_size: int = fields.setting(
    128, help='width E of a word vector; at most `hidden_size`', at_least=1
  )
  trigram_input: bool = fields.setting(
    True, help="concatenate each word vector with its two neighbours'"
  )
  use_bottleneck: bool = fields.setting(
    True,
    help="project each block's input down (or up) to `intra_bottleneck_size` "
    'and its output back',
  )
  intra_bottleneck_size: int = fields.setting(
    128, help='intra-block width', at_least=1
  )
  use_bottleneck_attention: bool = fields.setting(
    False, help="queries, keys and values all read the block's projected input"
  )
  key_query_shared_bottleneck: bool = fields.setting(
    True, help='queries and keys read a projection of their own'
  )
  num_feedforward_networks: int = fields.setting(
    4, help='feed-forward networks stacked in each block', at_least=1
  )
  normalization_type: str = fields.setting(
    'no_norm', help="'no_norm' (scale and shift only) or 'layer_norm'"
  )
  classifier_activation: bool = fields.setting(
    True,
    help='the pooler is tanh(dense(h[:, 0])); without it the pooled output '
    'is h[:, 0] itself and there are no pooler parameters',
  )
  classifier_dropout: float | None = fields.setting(
    None,
    help='dropout before the task heads; None means `hidden_dropout_prob`',
    at_least=0,
    below=1,
  )
  tie_word_embeddings: bool = fields.setting(
    True, help='the MLM decoder is the word table'
  )
  # None asks for the value that `__post_init__` derives.
  num_labels: int = fields.setting(
    None,
    help='outputs of the classification heads; 2 unless given here or '
    'through `id2label`',
  )
  id2label: Mapping[int, str] = fields.setting(
    None, help='names of the labels; LABEL_0, LABEL_1, ... unless given'
  )
  label2id: Mapping[str, int] = fields.setting(
    None, help='the inverse of `id2label`; derived unless given'
  )
  problem_type: str | None = fields.setting(
    None,
    help='which loss sequence classification uses; None decides from '
    "`num_labels` and the labels' dtype as transformers does",
  )
  task_specific_params: Mapping[str, Any] | None = fields.setting(
    None,
    help='how the model is used, by the name of a pipeline: for '
    "'question-answering' how texts are cut and answers chosen",
  )

  def __post_init__(self):
    self._set_labels()
    fields.check(self, 'MobileBertConfig')
    self._check_consistency()
    if self.task_specific_params is not None:
      frozen = _frozen(self.task_specific_params)
      object.__setattr__(self, 'task_specific_params', frozen)

  @property
  def true_hidden_size(self) -> int:
    """Width inside a block (transformers' `true_hidden_size`)."""
    return (
      self.intra_bottleneck_size if self.use_bottleneck else (self.hidden_size)
    )

  @property
  def head_dim(self) -> int:
    """Width of one attention head."""
    return self.true_hidden_size // self.num_attention_heads

  @property
  def head_dropout(self) -> float:
    """Dropout before a task head."""
    if self.classifier_dropout is None:
      return self.hidden_dropout_prob
    return self.classifier_dropout

  def replace(self, **changes: Any) -> Self:
    """A copy with other values, validated anew.

    New `num_labels`, `id2label` or `label2id` replace all three, because the
    old ones would contradict them.

    Raises:
      InputError: an unknown field or a wrong value.
    """
    known = {field.name for field in dataclasses.fields(self)}
    for name in changes:
      if name not in known:
        raise InputError(
          f'MobileBertConfig has no field {name!r}; it has: '
          f'{", ".join(sorted(known))}.'
        )
    labels = ('num_labels', 'id2label', 'label2id')
    if any(name in changes for name in labels):
      changes = dict.fromkeys(labels) | changes
    return dataclasses.replace(self, **changes)

  @classmethod
  def mobilebert(cls, **changes: Any) -> Self:
    """The published checkpoint: 36,597,564 parameters for pre-training."""
    return cls(**{'classifier_activation': False, **changes})

  @classmethod
  def mobilebert_tiny(cls, **changes: Any) -> Self:
    """MobileBERT_TINY: 15,485,696 parameters, bare and without pooler."""
    values = {
      'classifier_activation': False,
      'key_query_shared_bottleneck': False,
      'num_feedforward_networks': 2,
      'use_bottleneck_attention': True,
    }
    return cls(**{**values, **changes})

  @classmethod
  def mobilebert_without_opt(cls, **changes: Any) -> Self:
    """MobileBERT before the operational optimisations (paper, section 3.3)."""
    values = {
      'classifier_activation': False,
      'hidden_act': 'gelu_new',
      'normalization_type': 'layer_norm',
    }
    return cls(**{**values, **changes})

  @classmethod
  def ib_bert_large(cls, **changes: Any) -> Self:
    """The teacher IB-BERT_LARGE: 294,467,840 parameters with pooler.

    google-research's gelu is the tanh approximation, hence 'gelu_new'.
    """
    values = {
      'hidden_act': 'gelu_new',
      'hidden_dropout_prob': 0.1,
      'intermediate_size': 4096,
      'intra_bottleneck_size': 1024,
      'key_query_shared_bottleneck': False,
      'normalization_type': 'layer_norm',
      'num_feedforward_networks': 1,
    }
    return cls(**{**values, **changes})

  def _check_consistency(self):
    pad, vocab = self.pad_token_id, self.vocab_size
    if pad is not None and not 0 <= pad < vocab:
      raise _error('pad_token_id', pad, f'None or from 0 to {vocab - 1}')
    if self.embedding_size > self.hidden_size:
      raise _error(
        'embedding_size', self.embedding_size,
        f'at most hidden_size ({self.hidden_size})',
      )  # fmt: skip
    if self.true_hidden_size % self.num_attention_heads:
      width = 'intra_bottleneck_size' if self.use_bottleneck else 'hidden_size'
      raise _error(
        'num_attention_heads', self.num_attention_heads,
        f'a divisor of {width} ({self.true_hidden_size})',
      )  # fmt: skip
    for name, allowed in (
      ('hidden_act', ACTIVATIONS),
      ('normalization_type', NORMALIZATIONS),
      ('problem_type', (None, *PROBLEM_TYPES)),
    ):
      if getattr(self, name) not in allowed:
        raise _error(
          name, getattr(self, name), f'one of {", ".join(map(str, allowed))}'
        )

  def _set_labels(self):
    id2label, label2id = self.id2label, self.label2id
    if id2label is None and label2id is not None:
      id2label = {index: label for label, index in label2id.items()}
    if id2label is None:
      count = 2 if self.num_labels is None else self.num_labels
      if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise _error('num_labels', count, 'a whole number of at least 1')
      id2label = {index: f'LABEL_{index}' for index in range(count)}
    try:
      id2label = {int(index): str(name) for index, name in id2label.items()}
    except (TypeError, ValueError, AttributeError):
      raise _error(
        'id2label', id2label, 'a mapping from numbers to names'
      ) from None
    if sorted(id2label) != list(range(len(id2label))) or not id2label:
      raise _error(
        'id2label', dict(id2label), 'numbered 0, 1, 2, ... without gaps'
      )
    if self.num_labels not in (None, len(id2label)):
      raise _error(
        'num_labels', self.num_labels,
        f'the number of labels in id2label ({len(id2label)})',
      )  # fmt: skip
    if label2id is None:
      label2id = {name: index for index, name in id2label.items()}
    set_field = object.__setattr__
    set_field(self, 'num_labels', len(id2label))
    set_field(self, 'id2label', FrozenMap(sorted(id2label.items())))
    set_field(self, 'label2id', FrozenMap(label2id))
