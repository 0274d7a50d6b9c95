"""The settings of knowledge transfer and distillation."""

import dataclasses
from typing import Literal

from mobilebert_jax.config import fields

# Parts that a teacher can give to a student, and where they are in the
# parameters of a model with a head.
PARTS = {
  'word_embeddings': 'mobilebert/embeddings/word_embeddings',
  'position_embeddings': 'mobilebert/embeddings/position_embeddings',
  'token_type_embeddings': 'mobilebert/embeddings/token_type_embeddings',
  'embedding_transformation': 'mobilebert/embeddings/embedding_transformation',
  'embedding_norm': 'mobilebert/embeddings/norm',
  'masked_lm_head': 'predictions',
  'next_sentence_head': 'seq_relationship',
}
# What google-research copies: every variable outside of the encoder that both
# models have. The embeddings' norm is not among them, for it has another name
# in the student (NoNorm: it would mean something else there).
COPIED = tuple(part for part in PARTS if part != 'embedding_norm')

# What gives a transfer learning rates of its own.
_RATES = ('train_embeddings', 'previous_layers', 'layer_rate', 'equal_rate')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationConfig:
  """A teacher, and what a student learns from it (arXiv 2004.02984, section 3).

  A run with a teacher first transfers knowledge, in `transfer_steps` steps: the
  student's blocks learn to give what the teacher's give. From then on it
  distils: it learns the task from the labels and from the teacher's
  probabilities together. At the border, and at that of every stage of the
  transfer, the optimizer's moments begin anew; at the former its schedule too.

  The formulas are those of google-research's `mobilebert/run_pretraining.py`.
  Where that code does what looks like a mistake, or tensorflow/models'
  `projects/mobilebert` does something else, an option says so; all of these are
  off unless asked for.
  """

  teacher: str | None = fields.setting(
    None,
    help='a workdir of this project, or whatever `config.init` may be; None: '
    'no teacher, and nothing below has an effect',
  )
  strategy: Literal['none', 'progressive', 'joint', 'auxiliary'] = (
    fields.setting(
      'none',
      help="how knowledge is transferred (paper, section 3.4): 'progressive', "
      "a stage for each of the student's layers, first to last; 'joint', all "
      "layers in one stage; 'auxiliary', all layers beside the distillation, "
      "for the whole run; 'none', distillation alone",
    )
  )
  transfer_steps: int = fields.setting(
    0,
    help="steps of the transfer, for all stages together; only 'progressive' "
    "and 'joint' have any",
    at_least=0,
  )
  feature_map: float = fields.setting(
    100.0,
    help='factor of the squared difference of normalised feature maps',
    at_least=0,
  )
  attention: float = fields.setting(
    1.0,
    help='factor of the cross-entropy of attention distributions',
    at_least=0,
  )
  mean: float = fields.setting(
    5000.0,
    help="factor of the squared difference of the feature maps' means",
    at_least=0,
  )
  variance: float = fields.setting(
    5.0,
    help='factor of the absolute difference of their variances. A factor of '
    '0 turns a term off, and what it needs is not computed',
    at_least=0,
  )
  ground_truth_ratio: float = fields.setting(
    0.5,
    help="r in the distillation's labels, r x labels + (1 - r) x the "
    "teacher's probabilities. With 1 no label needs the teacher: in a "
    'distillation where no layer is compared it gives up its memory, and '
    'there is dropout, as in a run without one',
    at_least=0,
    at_most=1,
  )
  temperature: float = fields.setting(
    1.0, help='1 has no effect; see `temperature_on`', above=0
  )
  temperature_on: Literal['logits', 'sequence_output'] = fields.setting(
    'logits',
    help="'logits': both models' logits are divided by it, and the term "
    'multiplied by its square (Hinton et al., arXiv 1503.02531). '
    "'sequence_output': the teacher's last hidden states are multiplied by it "
    'before its head, as google-research does; larger is then sharper',
  )
  teacher_layers: tuple[int, ...] = fields.setting(
    (),
    help="the teacher's layer, from 0, that teaches each of the student's; "
    '(): those that `config.init_layers` took, or evenly spread, the last one '
    'by the last one',
  )
  copy: tuple[str, ...] = fields.setting(
    COPIED,
    help='parts of the teacher that a student from scratch begins with, out '
    'of `PARTS`; by default what google-research copies, as far as the '
    'teacher has it. What the student has not is left out. Only for '
    "`config.init` 'scratch'",
  )
  train_embeddings: bool = fields.setting(
    False,
    help='during the transfer the embeddings learn too, as an earlier layer '
    'does (tensorflow/models); otherwise all but the blocks is frozen then',
  )
  previous_layers: float = fields.setting(
    0.1,
    help='in the progressive transfer, the learning rate of layers whose '
    "stage is over, as a part of the current one's; 0 freezes them, and no "
    'gradient is computed for them',
    at_least=0,
  )
  layer_rate: float = fields.setting(
    3.0,
    help="in the transfer, the current layer's learning rate as a multiple "
    'of config.optimizer.learning_rate; within a stage of T steps it is '
    'multiplied '
    'by min(0.9 + 0.1 sqrt(1 - t / T), 10 t / T)',
    above=0,
  )
  equal_rate: bool = fields.setting(
    False,
    help='in the transfer, config.optimizer.learning_rate for all layers that '
    'learn '
    '(tensorflow/models): neither the shape within a stage nor `layer_rate` '
    'nor the size of `previous_layers` count',
  )
  divide_by: Literal['layers', 'stage'] = fields.setting(
    'layers',
    help="a transfer term is divided by the number of the student's layers "
    "('layers'), or by that of the layers up to the current one ('stage', "
    "tensorflow/models; 'progressive' alone has one)",
  )
  teacher_average_statistics: bool = fields.setting(
    False,
    help="means and variances are compared with those of the teacher's "
    'embeddings and all of its layers, whose average they are thereby drawn '
    "to. google-research's code does this, where its paper does not: a list "
    'is taken where one layer of it is meant',
  )
  paired_statistics: bool = fields.setting(
    False,
    help='mean and variance count only if neither factor is 0 '
    '(google-research)',
  )
  count_padding: bool = fields.setting(
    False,
    help='feature maps and attention of padding count too (google-research, '
    'where no transfer term knows of padding). Not for packed batches, whose '
    'padding belongs to no example',
  )
  norm_epsilon: float = fields.setting(
    1e-12,
    help='added to the variance when feature maps are normalised; '
    'google-research has 1e-12, tensorflow/models 1e-3',
    above=0,
  )
  dropout: Literal['off', 'student', 'both'] = fields.setting(
    'off',
    help="'off': neither model has dropout wherever the teacher is used "
    "(google-research); 'student'; or 'both' (tensorflow/models)",
  )
  teacher_dtype: Literal['bfloat16', 'float32', 'float64'] = fields.setting(
    'bfloat16',
    help="of the teacher's parameters and computation; softmax and norm "
    'statistics are in float32 at least',
  )
  teacher_placement: Literal['sharded', 'replicated'] = fields.setting(
    'sharded',
    help="'sharded': over the mesh by the rules for parameters; "
    "'replicated': whole on every device. The student has "
    '`config.mesh.param_sharding`: a small one is replicated where fsdp is for '
    'a large teacher',
  )

  def __post_init__(self):
    fields.check(self, fields.name('distillation'))
    self._check_strategy()
    self._check_layers()
    if self.train_embeddings and not self.previous_layers:
      raise self._wrong(
        'previous_layers',
        'above 0 with config.distillation.train_embeddings: the embeddings '
        'learn as earlier layers',
      )
    for part in self.copy:
      if part not in PARTS:
        raise self._wrong('copy', f'parts out of {", ".join(PARTS)}')

  @property
  def factors(self) -> dict[str, float]:
    """The factors of the terms that are on, by the terms' names."""
    result = {
      'feature_map': self.feature_map,
      'attention': self.attention,
      'mean': self.mean,
      'variance': self.variance,
    }
    if self.paired_statistics and not (self.mean and self.variance):
      del result['mean'], result['variance']
    return {name: factor for name, factor in result.items() if factor}

  @property
  def has_attention(self) -> bool:
    """Whether attention is compared."""
    return 'attention' in self.factors

  @property
  def has_statistics(self) -> bool:
    """Whether means or variances of feature maps are compared."""
    return bool({'mean', 'variance'} & self.factors.keys())

  @property
  def reads_whole_teacher(self) -> bool:
    """Whether a transfer term reads every layer of the teacher."""
    return self.teacher_average_statistics and self.has_statistics

  def _wrong(self, field: str, allowed: str) -> Exception:
    value = getattr(self, field)
    return fields.wrong(fields.name('distillation', field), value, allowed)

  def _check_strategy(self):
    if self.teacher is None:
      if self.strategy != 'none' or self.transfer_steps:
        raise self._wrong(
          'teacher', "a workdir, a directory or a hub name: there is a transfer"
        )  # fmt: skip
      return
    if not self.teacher:
      raise self._wrong('teacher', 'a workdir, a directory or a hub name')
    has_stages = self.strategy in ('progressive', 'joint')
    if has_stages and not self.transfer_steps:
      raise self._wrong(
        'transfer_steps', f"at least 2 with the strategy '{self.strategy}'"
      )
    if self.transfer_steps and not has_stages:
      raise self._wrong(
        'transfer_steps', f"0 with the strategy '{self.strategy}'"
      )
    if self.strategy != 'none' and not self.factors:
      raise self._wrong(
        'feature_map',
        f"above 0, or another factor, with the strategy '{self.strategy}'",
      )
    if not has_stages:
      self._check_rates()
    if self.divide_by == 'stage' and self.strategy != 'progressive':
      raise self._wrong(
        'divide_by', "'layers': only the strategy 'progressive' has a stage"
      )

  def _check_rates(self):
    """Refuses rates of a transfer where there is none."""
    defaults = {field.name: field.default for field in dataclasses.fields(self)}
    for name in _RATES:
      if getattr(self, name) != defaults[name]:
        raise self._wrong(
          name,
          f"{defaults[name]} with the strategy '{self.strategy}', which has no "
          'transfer with rates of its own',
        )

  def _check_layers(self):
    layers = self.teacher_layers
    if any(layer < 0 for layer in layers) or list(layers) != sorted({*layers}):
      raise self._wrong(
        'teacher_layers', 'ascending numbers of layers, the first being 0'
      )
