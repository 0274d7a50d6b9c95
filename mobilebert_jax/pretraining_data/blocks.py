"""How text is cut into blocks, the units of work."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mobilebert_jax.data.readers import documents
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work


class Part(NamedTuple):
  """Neighbouring documents of one file.

  Attributes:
    path: the file, absolute.
    first: the line where the first of them begins, from 1.
    stop: the line where the next one begins, which is not of this part.
  """

  path: str
  first: int
  stop: int


@dataclasses.dataclass(frozen=True)
class Block:
  """A run of whole documents.

  Attributes:
    number: from 0.
    parts: where its documents are.
    documents: how many it has.
    characters: how many they have.
  """

  number: int
  parts: tuple[Part, ...]
  documents: int
  characters: int


@dataclasses.dataclass(frozen=True)
class BlockPlan:
  """All text, in blocks.

  Attributes:
    blocks: in the order of the text.
    sha256: of every document's name and text.
  """

  blocks: tuple[Block, ...]
  sha256: str

  @property
  def documents(self) -> int:
    """Documents of all blocks."""
    return sum(block.documents for block in self.blocks)

  @property
  def characters(self) -> int:
    """Characters of all blocks."""
    return sum(block.characters for block in self.blocks)


# Behind the last line of any file.
_END = 1 << 62
# A document is a block at least, which one process holds in memory. One that
# has so many times the characters of a block, and more than any book, is many
# of them, one behind another.
_LONGEST, _BOOK = 32, 32_000_000


def plan(
  inputs: Sequence[files.Name], options: PretrainingDataOptions
) -> BlockPlan:
  """Reads all text once and cuts it.

  A block ends with the document that brings it to `options.block_size`
  characters, but has two documents at least where pairs are made. The cut
  depends on the text and the options alone. What is wrong anywhere in the
  text is found here, before anything is written.

  Args:
    inputs: text files and directories of text files, local or on gs://.
    options: what a document is, and the size of a block.

  Raises:
    InputError: no text, a wrong line, a file that is named twice, a document
      that is far larger than a block, or one alone where pairs need two.
  """
  repeats = documents.Repeats()
  cutter = _Cutter(options.block_size, 2 if options.next_sentence else 1)
  digest = hashlib.sha256()
  with Work('reading the text', 'characters') as work:
    for path in paths(inputs):
      in_file = documents.read_documents(
        path,
        options.documents,
        options.text_column,
        longest=max(_LONGEST * options.block_size, _BOOK),
      )
      for document in in_file:
        digest.update(_encoded(path, document))
        cutter.add(path, document)
        repeats.add(document)
        work.is_at(cutter.characters)
  repeats.say('the text')
  blocks = cutter.finish()
  if options.next_sentence and blocks[0].documents < 2:
    raise InputError(
      f'{blocks[0].parts[0].path}: the text is one document alone, but pairs '
      'for next-sentence prediction need two; use --documents=paragraph or '
      '--no-next_sentence.'
    )
  return BlockPlan(tuple(blocks), digest.hexdigest())


def read(block: Block, options: PretrainingDataOptions) -> Iterator[Document]:
  """Reads the documents of a block.

  Raises:
    InputError: a file has changed since the plan was made.
  """
  count = characters = 0
  for part in block.parts:
    in_part = documents.read_documents(
      files.path(part.path),
      options.documents,
      options.text_column,
      range(part.first, part.stop),
    )
    for document in in_part:
      count, characters = count + 1, characters + len(document.text)
      yield document
  if (count, characters) != (block.documents, block.characters):
    raise InputError(
      f'{block.parts[0].path}: the text has changed while it was read; start '
      'again.'
    )


def _encoded(path: pathlib.Path, document: Document) -> bytes:
  try:
    return f'{document.id}\n{document.text}\n'.encode()
  except UnicodeEncodeError:
    line = document.id.rpartition(':')[2]
    raise InputError(
      f'{path}:{line}: the text has half of a surrogate pair, which is no '
      'character; write it as UTF-8.'
    ) from None


def paths(inputs: Sequence[files.Name]) -> list[pathlib.Path]:
  """Finds the text files, named by absolute paths."""
  text_paths = [
    p for name in inputs for p in documents.find_files(files.path(name))
  ]
  # Links stay: what a file holds, and what its documents are called, is told
  # by its own name.
  text_paths = [p if files.is_remote(p) else p.absolute() for p in text_paths]
  seen: set[str] = set()
  for path in text_paths:
    name = str(files.absolute(path))
    if name in seen:
      raise InputError(f'{path}: the file is named twice; name it once.')
    seen.add(name)
  return text_paths


class _Cutter:
  """Puts documents into blocks, one after another."""

  def __init__(self, size: int, least: int):
    self._size, self._least = size, least
    self._blocks: list[Block] = []
    self._parts: list[Part] = []
    self._documents = self._characters = 0
    self.characters = 0

  def add(self, path: pathlib.Path, document: Document):
    name, line = str(path), int(document.id.rpartition(':')[2])
    if self._characters >= self._size and self._documents >= self._least:
      self._close()
    if not self._parts or self._parts[-1].path != name:
      if self._blocks and not self._parts:
        self._end_last_block(name, line)
      self._parts.append(Part(name, line, _END))
    self._documents += 1
    self._characters += len(document.text)
    self.characters += len(document.text)

  def finish(self) -> list[Block]:
    is_too_few = self._documents < self._least and self._blocks
    if is_too_few:
      last = self._blocks.pop()
      self._parts = _joined(last.parts, self._parts)
      self._documents += last.documents
      self._characters += last.characters
    self._close()
    return self._blocks

  def _close(self):
    number = len(self._blocks)
    self._blocks.append(
      Block(number, tuple(self._parts), self._documents, self._characters)
    )
    self._parts, self._documents, self._characters = [], 0, 0

  def _end_last_block(self, name: str, line: int):
    """Ends the block before where this document begins, if in its file."""
    last = self._blocks[-1]
    part = last.parts[-1]
    if part.path == name:
      parts = (*last.parts[:-1], part._replace(stop=line))
      self._blocks[-1] = dataclasses.replace(last, parts=parts)


def _joined(first: Sequence[Part], second: Sequence[Part]) -> list[Part]:
  """Joins two runs of parts; a file that was cut between them is whole."""
  if first[-1].path != second[0].path:
    return [*first, *second]
  middle = first[-1]._replace(stop=second[0].stop)
  return [*first[:-1], middle, *second[1:]]
