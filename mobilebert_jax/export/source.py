"""What is exported: a model and its tokenizer."""

import dataclasses
from typing import Any

import flax.linen as nn

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert import source as sources
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.models.typing import Params
from mobilebert_jax.pipelines.factory import check_vocabulary
from mobilebert_jax.reporting import model_card
from mobilebert_jax.runtime import files, hub
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training.workdir import Workdir, best_model, is_workdir


@dataclasses.dataclass(frozen=True)
class Source:
  """A model to export.

  Attributes:
    name: what the user called it.
    model: the model, which computes in float32.
    params: its parameters, as they are stored.
    tokenizer: the tokenizer.
    max_length: tokens that texts are cut to: those of the training, of the
      tokenizer or of the table of positions.
    card: the text of its model card, where it has one.
    run: the run that made it, where it is a run.
  """

  name: str
  model: nn.Module
  params: Params
  tokenizer: MobileBertTokenizerFast
  max_length: int
  card: str | None
  run: Workdir | None

  @property
  def head(self) -> str:
    """Transformers' name of the class."""
    return type(self.model).__name__

  @property
  def config(self) -> MobileBertConfig:
    """The architecture."""
    return self.model.config

  @property
  def labels(self) -> tuple[str, ...]:
    """The names of a text classifier's labels; () of other models."""
    labels = self.config.id2label or {}
    if self.head != 'MobileBertForSequenceClassification' or len(labels) < 2:
      return ()
    return tuple(labels[i] for i in sorted(labels))

  @property
  def is_multi_label(self) -> bool:
    """Whether a text may have several labels."""
    kind = self.config.problem_type
    is_labelled = self.head == 'MobileBertForSequenceClassification'
    return is_labelled and kind == 'multi_label_classification'


def load(options: ExportOptions) -> Source:
  """Loads the model and its tokenizer.

  Raises:
    InputError: nothing readable there, a head that was never trained, or a
      tokenizer that does not fit.
  """
  path = files.path(options.model)
  run = Workdir(path) if is_workdir(path) else None
  name = best_model(options.model)
  cls = None
  if options.architecture is not None:
    cls = sources.MODEL_CLASSES[options.architecture]
  model, params, report = load_pretrained(
    cls, name, param_dtype='auto', **options.hub
  )
  if report.newly_initialised:
    raise InputError(
      f'{options.model} has no weights for {type(model).__name__} '
      f'({", ".join(report.newly_initialised)}); train it, or choose another '
      '--architecture.'
    )
  tokenizer = MobileBertTokenizerFast.from_pretrained(
    options.tokenizer or name,
    do_lower_case=options.do_lower_case,
    strip_accents=options.strip_accents,
    **options.hub,
  )
  if options.tokenizer is not None:
    check_vocabulary(tokenizer, name, **options.hub)
  config: Any = model.config
  if len(tokenizer) > config.vocab_size:
    raise InputError(
      f'the tokenizer has {len(tokenizer)} tokens, but the model only '
      f'{config.vocab_size}; give its own as --tokenizer.'
    )
  longest = min(config.max_position_embeddings, tokenizer.model_max_length)
  if run is not None:
    longest = min(longest, run.read_config().data.max_length)
  cards = hub.resolve(name, [model_card.NAME], **options.hub)
  card = None
  if cards:
    card = cards[model_card.NAME].read_text(encoding='utf-8')
  return Source(options.model, model, params, tokenizer, longest, card, run)
