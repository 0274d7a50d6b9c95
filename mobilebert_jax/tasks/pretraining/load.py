"""What pre-training learns from: plain text, prepared records, or TFRecords.

`data.path` decides. Text is made into sequences at the start of the run and
kept in memory; records are read from disk batch by batch. `load_documents`
serves the other tasks on running text.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import PretrainingOptions, TextOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.examples import sequences
from mobilebert_jax.data.examples.chunks import Progress
from mobilebert_jax.data.examples.masking import (
  Masking,
  gathered_labels,
  masked_features,
  nothing_to_learn,
)
from mobilebert_jax.data.examples.sequences import Layout, tokenise
from mobilebert_jax.data.readers import bad_rows, documents, remarks
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.data.records.stored_features import (
  AnyFeatures,
  Form,
  StoredFeatures,
)
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.runtime import distributed, files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.task import Splits, custom_path
from mobilebert_jax.tokenizer import MobileBertTokenizer, comparison
from mobilebert_jax.tokenizer.pretrained import (
  TOKENIZER,
  VOCAB,
  known_vocabulary,
)

# Running text has nothing to hand in, so there is no test split.
SPLITS = Splits(test=())


def load_documents(
  options: TextOptions, data: DataConfig, split: str
) -> tuple[Document, ...]:
  """Loads the documents of a split, in the order of the files.

  Raises:
    InputError: No text there, a wrong line, or no text left for a split.
  """
  is_train = split == SPLITS.train
  train, validation = _text_paths(options, data)
  if validation:
    texts = _read_documents(
      options, train if is_train else validation, data.bad_rows
    )
  else:
    parts = documents.hold_out(
      _read_documents(options, train, data.bad_rows),
      options.validation_fraction,
    )
    texts = parts[0] if is_train else parts[1]
  return texts[: data.limit(is_train=is_train)]


def _text_paths(
  options: TextOptions, data: DataConfig
) -> tuple[tuple[pathlib.Path, ...], tuple[pathlib.Path, ...]]:
  """Finds the files to learn from and those to test with, if named."""
  root = custom_path(data, 'text')
  folder = root.parent if root.is_file() else root

  def named(name: str | None) -> tuple[pathlib.Path, ...]:
    return documents.find_files(folder / name) if name else ()

  validation = named(options.validation_file)
  train = named(options.train_file) or documents.find_files(root)
  train = tuple(path for path in train if path not in validation)
  if not train:
    raise InputError(
      f'{root}: config.options.validation_file={options.validation_file!r} '
      'takes all '
      'of the text; give text to learn from as well.'
    )
  return train, validation


def _read_documents(
  options: TextOptions,
  paths: tuple[pathlib.Path, ...],
  policy: bad_rows.Policy,
) -> tuple[Document, ...]:
  result: list[Document] = []
  for path in paths:
    with bad_rows.collect(path, policy) as bad:
      result += documents.read_documents(
        path, options.documents, options.text_column, bad=bad
      )
  repeats = documents.Repeats()
  for document in result:
    repeats.add(document)
  repeats.say(paths[0] if len(paths) == 1 else paths[0].parent)
  return tuple(result)


# The user is told if more than so many times the wanted share is held out.
_FAR_MORE = 2


def load(
  options: PretrainingOptions, data: DataConfig, split: str
) -> Sequence[Document] | Records:
  """Loads documents, or finds the records, of a split.

  Of records `data.train_examples` and `data.eval_examples` count records, of
  text documents.

  Raises:
    InputError: Missing or wrong data, or too little of it.
  """
  if data.source != 'files' or data.path is None:
    return load_documents(options, data, split)
  root = files.path(data.path)
  path = root / options.train_file if options.train_file else root
  if not path.exists() or not records.holds_records(path):
    return load_documents(options, data, split)
  is_train = split == SPLITS.train
  all_records = records.find(path)
  if options.validation_file is None:
    train, held = all_records.hold_out(options.validation_fraction)
    if is_train:
      _tell_share(options.validation_fraction, train, held)
  else:
    folder = root if root.is_dir() else root.parent
    held = records.find(folder / options.validation_file)
    train = all_records.without(held)
    if is_train and not len(train):
      raise InputError(
        f'{path}: config.options.validation_file={options.validation_file!r} '
        'takes '
        'all of the records; give records to learn from as well.'
      )
  return (train if is_train else held).first(data.limit(is_train=is_train))


def _tell_share(fraction: float, train: Records, held: Records):
  """Prints a note if far more is held out than was asked for."""
  total = len(train) + len(held)
  if len(held) > _FAR_MORE * fraction * total:
    distributed.print_on_primary(
      f'{train.origin}: {len(held):,} of {total:,} records '
      f'({len(held) / total:.0%}) are held out, since whole files are, though '
      f'config.options.validation_fraction is {fraction:g}; to learn from more '
      'of '
      f'them, {train.more_files()}.'
    )


def encode(
  options: PretrainingOptions,
  examples: Sequence[Document] | Records,
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
) -> Any:
  """Makes features of batches with masked_positions and labels [B, P].

  Args:
    options: How to make and mask sequences.
    examples: What `load` gave.
    tokenizer: Makes the tokens.
    max_length: Longest sequence, special tokens included.
    progress: Called with the documents done and all of them.

  Returns:
    `Features` of text, `StoredFeatures` of records; the columns of their
    batches are input_ids, token_type_ids, attention_mask, masked_positions,
    labels, weights and, with `options.next_sentence`, next_sentence_label.

  Raises:
    InputError: Sequences of another length or another vocabulary, too little
      text, or no room for it.
  """
  masking = Masking.of(
    tokenizer,
    probability=options.mask_probability,
    whole_word=options.whole_word,
    most=options.max_predictions_per_sequence,
  )
  if isinstance(examples, Records):
    return _stored(options, examples, tokenizer, max_length, masking)
  return _in_memory(options, examples, tokenizer, max_length, masking, progress)


def tokens_of(features: AnyFeatures, row: int) -> list[int]:
  """Returns a sequence's ids before any masking, [CLS] to the last [SEP]."""
  if isinstance(features, StoredFeatures):
    return features.tokens(row).tolist()
  ids = features.sequences['input_ids']
  return ids.values[slice(*ids.offsets[row : row + 2])].tolist()


def _in_memory(
  options: PretrainingOptions,
  examples: Sequence[Document],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  masking: Masking,
  progress: Progress | None,
) -> Features:
  layout = Layout(max_length, options.next_sentence, options.short_probability)
  layout.room()

  def is_at(done: int):
    if progress:
      progress(done, len(examples))

  text = tokenise(examples, tokenizer, options.sentences, is_at)
  drawn = sequences.draw(text, layout, options.seed)
  drawn = sequences.learnable(drawn, text.tokens, masking.is_special)
  if not len(drawn):
    raise nothing_to_learn(examples)
  special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
  framed = [
    sequences.frame(row, text.tokens, *special) for row in drawn.tolist()
  ]
  offsets = np.cumsum([0, *(len(ids) for ids, _ in framed)], dtype=np.int64)
  is_random = drawn[:, sequences.IS_RANDOM].astype(np.int32)
  labels = {'next_sentence_label': is_random}
  return masked_features(
    Ragged(np.concatenate([ids for ids, _ in framed]), offsets),
    Ragged(np.concatenate([t for _, t in framed]), offsets),
    labels if options.next_sentence else {},
    tokenizer,
    masking,
    max_length,
    layout.special,
  )


def _stored(
  options: PretrainingOptions,
  examples: Records,
  tokenizer: MobileBertTokenizer,
  max_length: int,
  masking: Masking,
) -> StoredFeatures:
  form = Form.of(examples)
  _check(options, examples, form, tokenizer, max_length)
  layout = Layout(max_length, form.has_next_sentence, 0.0)
  return StoredFeatures(
    records=examples,
    max_length=max_length,
    vocab_size=len(tokenizer),
    ignore_index=IGNORE_INDEX,
    has_static_masks=form.predictions is not None,
    has_next_sentence=options.next_sentence,
    mask=masking,
    gather=gathered_labels(masking, max_length, layout.special),
  )


def _check(
  options: PretrainingOptions,
  examples: Records,
  form: Form,
  tokenizer: MobileBertTokenizer,
  max_length: int,
):
  origin = examples.origin
  if form.max_length != max_length:
    raise InputError(
      f'{origin}: the records have {form.max_length} positions, but '
      f'config.data.max_length is {max_length}; the two must be equal.'
    )
  if options.next_sentence and not form.has_next_sentence:
    raise InputError(
      f'{origin}: the records have no next_sentence_labels; use '
      'config.options.next_sentence=False.'
    )
  manifest = examples.manifest
  is_other = form.first_token != tokenizer.cls_token_id or (
    manifest is not None
    and manifest['vocabulary'] != prepared.vocabulary_hash(tokenizer)
  )
  if is_other:
    raise InputError(
      f'{origin}: the records were made with another vocabulary than '
      "config.tokenizer's; use the tokenizer that they were made with."
    )
  if manifest is None:
    _check_beside(origin, tokenizer)


def _check_beside(origin: pathlib.Path, tokenizer: MobileBertTokenizer):
  """Compares a tokenizer with the one whose files lie beside TFRecords.

  The records say nothing of their vocabulary themselves.

  Raises:
    InputError: It has other tokens.
  """
  directory = origin if origin.is_dir() else origin.parent
  names = (VOCAB, TOKENIZER)
  if not any((directory / name).exists() for name in names):
    remarks.say(
      f'{origin}: TFRecords do not say which vocabulary they were made with, '
      'so only the id of [CLS] is compared; a copy of its '
      f'{" or ".join(names)} beside them is compared token by token.'
    )
    return
  for line in comparison.check(
    tokenizer.tokens(),
    'config.tokenizer',
    known_vocabulary(directory),
    f'the records of {origin}',
    'use the tokenizer that they were made with',
  ):
    remarks.say(line)
