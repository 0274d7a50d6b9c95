"""The records of one block: a pure function of its text and the options."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.examples import sequences
from mobilebert_jax.data.examples.masking import Masking
from mobilebert_jax.data.examples.sequences import (
  Layout,
  TokenisedText,
  tokenise,
)
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records import tf_example
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.tokenizer import MobileBertTokenizer


@dataclasses.dataclass
class Counts:
  """What became of some text.

  Attributes:
    tokens: of the text, counted once.
    unknown: those of them that are [UNK].
    documents: of the text, those with a token.
    examples: records.
    example_tokens: tokens in the records, special ones included.
    random_next: records whose second segment is random.
    forced_next: those of them that had to be, since the first segment is a
      sentence alone with none to follow.
    maskable: tokens in the records that are not special; with static masking.
    predicted: those of them that are to be predicted; of these
    masked: are replaced by [MASK],
    replaced: by a random token, and
    kept: stay.
  """

  tokens: int = 0
  unknown: int = 0
  documents: int = 0
  examples: int = 0
  example_tokens: int = 0
  random_next: int = 0
  forced_next: int = 0
  maskable: int = 0
  predicted: int = 0
  masked: int = 0
  replaced: int = 0
  kept: int = 0


class Writer:
  """Makes the records of one data set; shared by all blocks."""

  def __init__(
    self, options: PretrainingDataOptions, tokenizer: MobileBertTokenizer
  ):
    """Prepares the layout and the masking.

    Raises:
      InputError: Records have no room for text.
    """
    self._options, self._tokenizer = options, tokenizer
    self._layout = Layout(
      options.max_length, options.next_sentence, options.short_probability
    )
    self._layout.room()
    self._special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    self._masking = Masking.of(
      tokenizer,
      probability=options.mask_probability,
      whole_word=options.whole_word,
      most=options.max_predictions_per_sequence,
    )

  def records(
    self, documents: Iterable[Document], number: int, counts: Counts
  ) -> Iterator[bytes]:
    """Yields the serialised tf.Examples of a block, in a random order.

    There is none where no document has a token that the tokenizer knows, or
    one alone has and pairs need two.

    Args:
      documents: the block's.
      number: the block's.
      counts: what is found is added to it.
    """
    text = tokenise(documents, self._tokenizer, self._options.sentences)
    counts.tokens += len(text.tokens)
    counts.documents += len(text)
    unknown = self._tokenizer.unk_token_id
    counts.unknown += int((text.tokens == unknown).sum())
    if len(text) < (2 if self._options.next_sentence else 1):
      return
    for index, row in enumerate(self._sequences(text, number).tolist()):
      ids, types = sequences.frame(row, text.tokens, *self._special)
      counts.examples += 1
      counts.example_tokens += len(ids)
      counts.random_next += row[sequences.IS_RANDOM]
      counts.forced_next += row[sequences.IS_FORCED]
      features = self._features(ids, types, number, index, counts)
      if self._options.next_sentence:
        features['next_sentence_labels'] = np.array([row[sequences.IS_RANDOM]])
      yield tf_example.encode(features)

  def _sequences(
    self, text: TokenisedText, number: int
  ) -> Int[np.ndarray, 'N 6']:
    options = self._options
    drawn = [
      sequences.draw(text, self._layout, options.seed, number, repeat)
      for repeat in range(options.repeats())
    ]
    kept = sequences.learnable(
      np.concatenate(drawn), text.tokens, self._masking.is_special
    )
    return sequences.shuffled(kept, options.seed, number)

  def _features(
    self,
    ids: Int[np.ndarray, 'S'],
    types: Int[np.ndarray, 'S'],
    number: int,
    index: int,
    counts: Counts,
  ) -> dict[str, np.ndarray]:
    """Makes the features, named as Google's script does."""
    size = self._options.max_length
    features = {}
    if self._options.masking == 'static':
      # The number of the block stands where training has that of the epoch.
      seen, labels = self._masking(ids, self._options.seed, number, index)
      features = self._predictions(ids, seen, labels, counts)
      ids = seen
    pad = self._tokenizer.pad_token_id
    features['input_ids'] = _filled(ids, size, pad)
    features['input_mask'] = _filled(np.ones(len(ids), np.int32), size, 0)
    features['segment_ids'] = _filled(types, size, 0)
    return features

  def _predictions(
    self,
    ids: Int[np.ndarray, 'S'],
    seen: Int[np.ndarray, 'S'],
    labels: Int[np.ndarray, 'S'],
    counts: Counts,
  ) -> dict[str, np.ndarray]:
    positions = np.flatnonzero(labels != IGNORE_INDEX)
    is_masked = seen[positions] == self._masking.mask_id
    is_kept = seen[positions] == ids[positions]
    counts.maskable += int((~self._masking.is_special[ids]).sum())
    counts.predicted += len(positions)
    counts.masked += int(is_masked.sum())
    counts.kept += int(is_kept.sum())
    counts.replaced += int((~is_masked & ~is_kept).sum())
    most = self._options.max_predictions_per_sequence
    weights = np.ones(len(positions), np.float32)
    return {
      'masked_lm_positions': _filled(positions, most, 0),
      'masked_lm_ids': _filled(ids[positions], most, 0),
      'masked_lm_weights': _filled(weights, most, 0),
    }


def _filled(values: np.ndarray, size: int, fill: int) -> np.ndarray:
  filled = np.full(size, fill, values.dtype)
  filled[: len(values)] = values
  return filled
