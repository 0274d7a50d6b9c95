"""What decides the records of a prepared data set."""

import dataclasses
from typing import Literal

from mobilebert_jax.config import fields

# What only static masking uses.
_OF_STATIC = ('mask_probability', 'whole_word', 'max_predictions_per_sequence')
# Google's dupe_factor.
_DUPLICATES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingDataOptions:
  """The flags of `python -m mobilebert_jax.pretraining_data`.

  The defaults are those of BERT's create_pretraining_data.py, but for the
  masking.
  """

  max_length: int = fields.setting(
    128, help='positions of a record, special tokens included', at_least=5
  )
  masking: Literal['dynamic', 'static'] = fields.setting(
    'dynamic',
    help="'dynamic': the records hold whole sequences, and training masks "
    "them anew in each epoch; 'static': what is masked is part of the record, "
    "as Google's script makes them",
  )
  next_sentence: bool = fields.setting(
    True,
    help='pairs of segments for next-sentence prediction; False: whole '
    'sentences of one document, as many as fit',
  )
  documents: Literal['file', 'paragraph', 'line'] = fields.setting(
    'file',
    help="what a document is in *.txt: a 'file', a 'paragraph' (between "
    "blank lines), or a 'line'. In *.jsonl it is a line",
  )
  text_column: str = fields.setting(
    'text', help='the name of the text in *.jsonl'
  )
  sentences: Literal['marks', 'lines'] = fields.setting(
    'marks',
    help="what ends a sentence: 'marks' of punctuation, or 'lines' (a "
    'sentence on each line)',
  )
  short_probability: float = fields.setting(
    0.1,
    help='share of the sequences that have a random length',
    at_least=0,
    at_most=1,
  )
  duplicates: int | None = fields.setting(
    None,
    help='how often the text is gone through, each time with other pairs, '
    'lengths and masks; None: 10 with static masking, otherwise 1',
    at_least=1,
  )
  mask_probability: float = fields.setting(
    0.15,
    help='share of the tokens to predict; of static masking',
    above=0,
    below=1,
  )
  whole_word: bool = fields.setting(
    False, help='mask all pieces of a word together; of static masking'
  )
  max_predictions_per_sequence: int = fields.setting(
    20,
    help='tokens to predict in one sequence at most; of static masking',
    at_least=1,
  )
  block_size: int = fields.setting(
    16_000_000,
    help='characters of text in a block, at least; a block becomes one file, '
    'and random next sentences come from the same block',
    at_least=1,
  )
  seed: int = fields.setting(
    12345, help='seed of everything random', at_least=0, below=2**63
  )

  def __post_init__(self):
    fields.check(self, 'options')
    if self.masking == 'static':
      return
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name in _OF_STATIC and value != field.default:
        raise fields.wrong(
          f'options.{field.name}', value,
          "left as it is with masking='dynamic': what is masked is then a "
          "setting of the training, the task's config.options",
        )  # fmt: skip

  def repeats(self) -> int:
    """How often the text is gone through."""
    if self.duplicates is not None:
      return self.duplicates
    return _DUPLICATES if self.masking == 'static' else 1
