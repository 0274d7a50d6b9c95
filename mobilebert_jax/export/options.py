"""The settings of an export."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from mobilebert_jax.config import fields
from mobilebert_jax.config.fields import setting
from mobilebert_jax.config.flags import CLASSES
from mobilebert_jax.runtime.errors import InputError

# What each format can be quantised to.
QUANTIZATIONS = {
  'litert': ('float16', 'dynamic', 'weight_only', 'int8', 'int8x16', 'int4x8'),
  'onnx': ('float16', 'dynamic', 'int8', 'int8x16', 'int4x8'),
  'saved_model': (),
  'stablehlo': (),
}
# Those that need ranges of real texts.
CALIBRATED = ('int8', 'int8x16', 'int4x8')
_CHOICES = 'MobileBertForMultipleChoice'
_ANSWERS = 'MobileBertForQuestionAnswering'


@dataclasses.dataclass(frozen=True)
class ExportOptions:
  """What is exported, as what, and where to."""

  model: str = setting(
    help='the workdir of a run, a transformers directory, or a hub name'
  )
  format: Literal['litert', 'onnx', 'saved_model', 'stablehlo'] = setting(
    help='what is written'
  )
  output: str = setting(help='directory to write')
  quantize: Literal[
    'none', 'float16', 'dynamic', 'weight_only', 'int8', 'int8x16', 'int4x8'
  ] = setting(
    'none',
    help='also write a smaller file: float16; weights of 8 bits, with floats '
    'beside them (weight_only, litert) or products of integers (dynamic); or '
    'everything in integers, by ranges that are measured on texts: weights and '
    'activations of 8 bits (int8), activations of 16 (int8x16), weights of 4 '
    '(int4x8)',
  )
  calibration: str | None = setting(
    None,
    help='texts, as --texts has them, whose ranges decide how activations '
    'become integers; none: training examples of the run',
  )
  calibration_examples: int = setting(
    200, help='of those, how many', at_least=1
  )
  equalize: bool = setting(
    True,
    help='rescale channels before quantising, which changes no output: without '
    'it, models whose channels differ widely lose much',
  )
  score: int = setting(
    1000,
    help="examples of the run's validation split that a quantised file and the "
    'model are both scored on; 0: none',
    at_least=0,
  )
  names: Literal['transformers', 'mlperf'] = setting(
    'transformers',
    help='names of inputs and outputs; mlperf, for question answering, has '
    'input_ids, input_mask, segment_ids; end_logits, start_logits',
  )
  lengths: tuple[int, ...] | None = setting(
    None,
    help='litert: lengths in tokens, each a signature of the file; none: the '
    'length of the training, 384 for question answering',
  )
  batch_size: int = setting(
    1, help='litert: texts of a call, which are fixed there', at_least=1
  )
  choices: int | None = setting(
    None,
    help='litert: choices of an example of multiple choice; none: as many as '
    'the texts have',
    at_least=2,
  )
  hidden_states: bool = setting(
    False, help="output the embeddings' output and each block's"
  )
  attentions: bool = setting(
    False, help="output each block's attention probabilities"
  )
  pooler: bool = setting(
    False, help='output the pooled output, of classes that compute one'
  )
  parameters: Literal['inside', 'outside'] = setting(
    'inside', help='stablehlo: where the weights are; outside: in a file beside'
  )
  texts: str | None = setting(
    None,
    help='real inputs, .txt (one on each line), .jsonl, .csv or .tsv, with the '
    'columns that predict reads; none: the validation split of the run',
  )
  check: int = setting(
    64, help='texts that the written files are checked with', at_least=1
  )
  tokenizer: str | None = setting(
    None, help="another tokenizer, a directory or a hub name; none: the model's"
  )
  do_lower_case: bool | None = setting(
    None,
    help="lower-case texts; none: what the tokenizer's files say, or whether "
    'its tokens have capitals',
  )
  strip_accents: bool | None = setting(
    None, help='take accents off; none: likewise, else as do_lower_case'
  )
  architecture: str | None = setting(
    None, help='the class to export; none: the one that was saved'
  )
  python: str | None = setting(
    None,
    help='litert: a Python that has litert-converter, if this one has not',
  )
  force: bool = setting(
    False, help='replace files in an output that is not empty'
  )
  push_to_hub: str | None = setting(
    None, help='then upload the directory as this repository, OWNER/NAME'
  )
  private: bool = setting(False, help='a new repository is private')
  hub: Mapping[str, Any] = setting(
    default_factory=dict,
    help='options of from_pretrained for names on the hub: revision, token, '
    'cache_dir, local_files_only, subfolder',
    repr=False,
  )

  def __post_init__(self):
    """Checks each value, and those that do not go together.

    Raises:
      InputError: naming the flag, its value and what would be right.
    """
    fields.check(self, 'ExportOptions')
    if self.architecture is not None and self.architecture not in CLASSES:
      raise fields.wrong(
        '--architecture', self.architecture, f'one of {", ".join(CLASSES)}'
      )
    known = QUANTIZATIONS[self.format]
    if self.quantize != 'none' and self.quantize not in known:
      raise InputError(
        f'--quantize={self.quantize} does not go with --format={self.format}, '
        f'which takes {" or ".join(("none", *known))}.'
      )
    for name, default in (
      ('lengths', None), ('batch_size', 1), ('choices', None), ('python', None),
    ):  # fmt: skip
      if getattr(self, name) != default and self.format != 'litert':
        raise InputError(
          f'--{name} is for --format=litert; {self.format} files take any '
          'batch and length.'
        )
    if self.calibration is not None and self.quantize not in CALIBRATED:
      raise InputError(
        f'--calibration is for --quantize={" or ".join(CALIBRATED)}; '
        f'{self.quantize} measures nothing.'
      )
    if self.parameters != 'inside' and self.format != 'stablehlo':
      raise InputError('--parameters=outside is for --format=stablehlo.')
    if self.names != 'transformers' and self.format == 'stablehlo':
      raise InputError(
        f'--names={self.names} does not go with --format=stablehlo, whose '
        'inputs have positions and no names.'
      )
    if self.private and self.push_to_hub is None:
      raise InputError('--private is for --push_to_hub.')
    lengths = self.lengths or ()
    if self.lengths is not None and (
      not lengths or min(lengths) < 2 or len(set(lengths)) < len(lengths)
    ):
      raise fields.wrong(
        '--lengths', lengths, 'different numbers of at least 2 tokens'
      )

  def check_class(self, head: str):
    """Refuses what does not go with the model's class.

    Args:
      head: transformers' name of the class.

    Raises:
      InputError: naming the flag.
    """
    if self.names == 'mlperf' and head != _ANSWERS:
      raise InputError(
        f'--names=mlperf is for question answering, and {self.model} is a '
        f'{head}.'
      )
    if self.choices is not None and head != _CHOICES:
      raise InputError(
        f'--choices is for multiple choice, and {self.model} is a {head}.'
      )
