"""Training of a new WordPiece vocabulary from text."""

import collections
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import trainers

from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.construction import build_pipeline
from mobilebert_jax.tokenizer.tokenizer import MobileBertTokenizerFast

# [PAD] first: its id is then 0, the configuration's default.
SPECIAL_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_CHUNK = 1000
# Kinds of characters that are always kept, and the share of the places that
# more of them may take before pieces of words are learnt.
_ALPHABET, _ALPHABET_SHARE = 1000, 0.5
# Characters of the text in which [UNK] is counted.
_COUNTED = 10_000_000


def train_wordpiece(
  texts_or_files: Iterable[str | os.PathLike],
  vocab_size: int = 30522,
  *,
  do_lower_case: bool = True,
  strip_accents: bool | None = None,
  tokenize_chinese_chars: bool = True,
  min_frequency: int = 2,
  limit_alphabet: int | None = None,
  progress: bool = True,
  **tokenizer_options: Any,
) -> MobileBertTokenizerFast:
  """Learns a vocabulary and returns a tokenizer that has it.

  The same texts and options give the same vocabulary, in any process and for
  any order of equal-count pieces. The vocabulary begins with [PAD], [UNK],
  [CLS], [SEP], [MASK]; then come the alphabet's characters as word starts,
  and as `##` continuations where they occur in words, so that every word of
  known characters can be spelled.

  Args:
    texts_or_files: texts as strings; a `pathlib.Path` is a file in UTF-8 that
      is read line by line.
    vocab_size: tokens wanted; fewer come out where the text has no more
      pieces that occur `min_frequency` times.
    do_lower_case: as for the tokenizer.
    strip_accents: as for the tokenizer.
    tokenize_chinese_chars: as for the tokenizer.
    min_frequency: how often two pieces must meet to be joined.
    limit_alphabet: kinds of characters kept, the most frequent first; None: a
      thousand, more while they take at most half of the places, and all that
      fit into the places that are left when the pieces are learnt.
    progress: report what is read and learned on stderr.
    **tokenizer_options: further arguments of the tokenizer, such as
      `model_max_length`.

  Returns:
    The tokenizer; `save_pretrained` writes it.

  Raises:
    InputError: no text, an item of another type (with its index), a file that
      cannot be read, or a `vocab_size` too small for the alphabet.
  """
  for name, value in (
    ('vocab_size', vocab_size),
    ('min_frequency', min_frequency),
    ('limit_alphabet', limit_alphabet),
  ):
    if name == 'limit_alphabet' and value is None:
      continue
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise InputError(f'{name} must be a positive integer, got {value!r}.')
  sources = _checked(texts_or_files)
  backend = build_pipeline(
    {token: index for index, token in enumerate(SPECIAL_TOKENS)},
    unk_token='[UNK]',
    do_lower_case=do_lower_case,
    tokenize_chinese_chars=tokenize_chinese_chars,
    strip_accents=strip_accents,
    do_basic_tokenize=True,
    max_input_chars_per_word=100,
  )
  ranked = _characters(backend, sources, progress)
  kept = limit_alphabet or _most_characters(backend, ranked, vocab_size)
  alphabet = sorted(ranked[:kept])
  continuing = [f'##{c}' for c in alphabet if _continues(backend, c)]
  needed = len(SPECIAL_TOKENS) + len(alphabet) + len(continuing)
  if vocab_size < needed:
    raise InputError(
      f'vocab_size={vocab_size} is too small: {len(SPECIAL_TOKENS)} special '
      f'tokens and an alphabet of {len(alphabet)} characters take {needed}; '
      'raise it or lower limit_alphabet.'
    )
  # The trainer numbers '##' pieces in the order of a hash map, and ties are
  # settled by number: given beforehand, the result is reproducible.
  trainer = trainers.WordPieceTrainer(
    vocab_size=vocab_size,
    min_frequency=min_frequency,
    # The bars of the library print blank lines where there is no terminal.
    show_progress=progress and sys.stderr.isatty(),
    special_tokens=[*SPECIAL_TOKENS, *alphabet, *continuing],
    initial_alphabet=alphabet,
    limit_alphabet=len(alphabet),
    continuing_subword_prefix='##',
  )
  backend.train_from_iterator(_chunks(sources), trainer)
  vocab = backend.get_vocab()
  if limit_alphabet is None:
    kept += _add_characters(backend, ranked[kept:], vocab, vocab_size)
  tokenizer = MobileBertTokenizerFast(
    vocab,
    do_lower_case=do_lower_case,
    strip_accents=strip_accents,
    tokenize_chinese_chars=tokenize_chinese_chars,
    **tokenizer_options,
  )
  if progress:
    kinds = min(kept, len(ranked))
    print(
      f'learned {len(vocab):,} tokens, with {kinds:,} of {len(ranked):,} kinds '
      f'of characters; {_unknown_share(tokenizer, sources):.2%} of the tokens '
      'of the text are [UNK]',
      file=sys.stderr,
    )
  return tokenizer


def _checked(sources: Any) -> Sequence[str | pathlib.Path]:
  """Returns texts and paths in a list, since they are read twice."""
  if isinstance(sources, (str, os.PathLike)) or not isinstance(
    sources, Iterable
  ):
    raise InputError(
      'texts_or_files must be a list of texts or of pathlib.Path, '
      f'got {type(sources).__name__}.'
    )
  checked: list[str | pathlib.Path] = []
  for i, item in enumerate(sources):
    if isinstance(item, str):
      checked.append(item)
    elif isinstance(item, os.PathLike):
      path = files.path(item)
      if not path.is_file():
        raise InputError(f'texts_or_files[{i}]: {path} is no file.')
      checked.append(local_copies.file(path))
    else:
      raise InputError(
        f'texts_or_files[{i}] is {item!r}; it must be a string or a path.'
      )
  # A name given as a string would be taken for the text itself.
  if len(checked) <= 100:
    for i, item in enumerate(checked):
      if isinstance(item, str) and len(item) < 256 and os.path.isfile(item):
        raise InputError(
          f'texts_or_files[{i}] is the name of a file; pass '
          f'pathlib.Path({item!r}) to read it.'
        )
  return checked


def _chunks(sources: Sequence[str | pathlib.Path]) -> Iterator[list[str]]:
  """Yields the lines of all sources, in lists of bounded length."""
  chunk: list[str] = []
  for i, source in enumerate(sources):
    for line in [source] if isinstance(source, str) else _lines(source):
      chunk.append(_valid(line, i))
      if len(chunk) == _CHUNK:
        yield chunk
        chunk = []
  if chunk:
    yield chunk


def _lines(path: pathlib.Path) -> Iterator[str]:
  try:
    # Lines are decoded one by one to know where a mistake is.
    with path.open('rb') as file:
      for number, line in enumerate(file, start=1):
        try:
          yield line.decode('utf-8')
        except UnicodeDecodeError as error:
          raise InputError(f'{path}:{number}: not UTF-8.') from error
  except OSError as error:
    raise InputError(f'{path}: cannot read it: {error.strerror}.') from error


def _valid(text: str, index: int) -> str:
  try:
    text.encode('utf-8')
  except UnicodeEncodeError as error:
    raise InputError(
      f'texts_or_files[{index}] has half of a surrogate pair at character '
      f'{error.start}, which is no valid Unicode.'
    ) from error
  return text


def _characters(
  backend: Any, sources: Sequence[str | pathlib.Path], progress: bool
) -> list[str]:
  """Returns all characters of the text, the most frequent ones first."""
  counts: collections.Counter[str] = collections.Counter()
  lines, reported = 0, time.monotonic()
  for chunk in _chunks(sources):
    # Spaces between lines do not count; one call is faster than a thousand.
    counts.update(backend.normalizer.normalize_str('\n'.join(chunk)))
    lines += len(chunk)
    if progress and time.monotonic() - reported > 5:
      reported = time.monotonic()
      print(f'read {lines:,} lines ...', file=sys.stderr)
  for character in [c for c in counts if c.isspace()]:
    del counts[character]
  if not counts:
    raise InputError('texts_or_files has no text to learn from.')
  if progress:
    print(f'read {lines:,} lines, {len(counts):,} characters', file=sys.stderr)
  # Ties by code point, for the same alphabet every time.
  return sorted(counts, key=lambda c: (-counts[c], c))


def _most_characters(backend: Any, ranked: Sequence[str], size: int) -> int:
  """Returns how many characters may take places before pieces are learnt."""
  taken = len(SPECIAL_TOKENS)
  for count, character in enumerate(ranked):
    taken += 1 + _continues(backend, character)
    if count >= _ALPHABET and taken > _ALPHABET_SHARE * size:
      return count
  return len(ranked)


def _add_characters(
  backend: Any, rest: Sequence[str], vocab: dict[str, int], size: int
) -> int:
  """Adds characters while there are places; returns how many it has added."""
  for added, character in enumerate(rest):
    pieces = [character, f'##{character}'][: 1 + _continues(backend, character)]
    if len(vocab) + len(pieces) > size:
      return added
    for piece in pieces:
      vocab.setdefault(piece, len(vocab))
  return len(rest)


def _unknown_share(
  tokenizer: MobileBertTokenizerFast, sources: Sequence[str | pathlib.Path]
) -> float:
  """Returns the share of [UNK] among the tokens of the text's beginning."""
  tokens = unknown = characters = 0
  for chunk in _chunks(sources):
    rows = tokenizer(chunk, add_special_tokens=False, verbose=False)
    for row in rows['input_ids']:
      tokens += len(row)
      unknown += row.count(tokenizer.unk_token_id)
    characters += sum(map(len, chunk))
    if characters > _COUNTED:
      break
  return unknown / max(tokens, 1)


def _continues(backend: Any, character: str) -> bool:
  """Returns whether a character can stand inside a word."""
  text = backend.normalizer.normalize_str(f'a{character}a')
  return len(backend.pre_tokenizer.pre_tokenize_str(text)) == 1
