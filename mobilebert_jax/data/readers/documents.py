"""Running text: documents from text files and JSON Lines, and a held-out part.

A document is what belongs together: nothing is ever joined across documents.
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from mobilebert_jax.data.random_streams import hash_rank
from mobilebert_jax.data.readers import bad_rows, remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.lines import (
  first_bytes,
  plain_name,
  read_lines,
  read_objects,
  with_compressed,
)
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

Unit = Literal['file', 'paragraph', 'line']
# What a directory is searched for; in small or capital letters.
_TEXT, _OBJECTS = ('.txt', '.text', '.tokens'), ('.jsonl',)
SUFFIXES = with_compressed((*_TEXT, *_OBJECTS))
# The files that wikiextractor writes, in directories AA, AB, ...
_WIKI = re.compile(r'wiki_\d{2,}')
_WIKI_MARKS = ('<doc id=', '</doc>')
_BLANK = re.compile(r'\s*\Z')
# Documents whose texts are compared, to tell how many are there twice.
_MOST_COMPARED = 1_000_000


@dataclasses.dataclass(frozen=True)
class Document:
  """One text.

  Attributes:
    id: Its file's name and the line where it begins, 'book.txt:1'.
    text: The text; a line feed ends a line.
  """

  id: str
  text: str

  def lines(self) -> list[str]:
    """Returns the text's lines, without their ends."""
    return self.text.split('\n')


class Repeats:
  """Counts the documents whose text an earlier one has."""

  def __init__(self):
    self._seen: set[int] = set()
    self._compared = self._repeated = 0

  def add(self, document: Document):
    """Compares one more document; of very many only the first ones."""
    if self._compared == _MOST_COMPARED:
      return
    self._compared += 1
    digest = hashlib.blake2b(
      document.text.encode('utf-8', 'surrogatepass'), digest_size=8
    )
    key = int.from_bytes(digest.digest())
    self._repeated += key in self._seen
    self._seen.add(key)

  def say(self, where: Any):
    """Says how many there are, if any."""
    if self._repeated:
      remarks.say(
        f'{where}: {self._repeated:,} of {self._compared:,} documents have the '
        'text of an earlier one.'
      )


def find_files(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
  """Finds the text files that `path` is or holds, sorted by name.

  A directory without one that has directories with some holds those. Hidden
  files and directories are left out.

  Raises:
    InputError: There is none, or a file with another suffix is named.
  """
  shown = ', '.join((*_TEXT, *_OBJECTS))
  if path.is_file():
    if not _is_text_name(path.name):
      raise InputError(
        f'{path}: text files must end in {shown}, perhaps compressed.'
      )
    return (path,)
  if not path.is_dir():
    raise InputError(
      f'{path}: there is no such file or directory; expected text files '
      f'({shown}).'
    )
  result = _text_files(path)
  if not result:
    raise InputError(
      f'{path}: the directory has no text file ({shown})'
      f'{files.shown_entries(path)}.'
    )
  return tuple(result)


def _text_files(directory: pathlib.Path, depth: int = 2) -> list[pathlib.Path]:
  """Returns the text files of a directory, or else those below it."""
  here = [p for p in files.visible_files(directory) if _is_text_name(p.name)]
  if here or not depth:
    return here
  below = sorted(
    item
    for item in directory.iterdir()
    if not files.is_hidden(item.name) and item.is_dir()
  )
  return [p for folder in below for p in _text_files(folder, depth - 1)]


def _is_text_name(name: str) -> bool:
  return (
    name.lower().endswith(SUFFIXES)
    or _WIKI.fullmatch(plain_name(name)) is not None
  )


def _is_objects(path: pathlib.Path) -> bool:
  """Returns whether a file is JSON Lines; of wikiextractor's by its content."""
  if _WIKI.fullmatch(plain_name(path.name)):
    return first_bytes(path).lstrip().startswith(b'{')
  return plain_name(path.name.lower()).endswith(_OBJECTS)


def read_documents(
  path: pathlib.Path,
  unit: Unit = 'file',
  text_column: str = 'text',
  within: range | None = None,
  longest: int | None = None,
  bad: BadRows | None = None,
) -> Iterator[Document]:
  """Reads the documents of one file, leaving out empty ones.

  In wikiextractor's files, <doc ...> and </doc> are borders of documents and
  no text.

  Args:
    path: A text file, or JSON Lines with one document on each line.
    unit: What a document is in a text file: the whole 'file', a 'paragraph'
      (lines between blank lines), or a 'line'.
    text_column: The name of the text in JSON Lines: a string, or a list of
      strings, which are joined as lines.
    within: The numbers of the lines to read, which must begin with a document;
      None: all.
    longest: Characters that a document of a text file may have; one with more
      is not read to its end. None: any number.
    bad: Counts wrong lines of JSON Lines, and lines that are not UTF-8; None:
      they are refused.

  Raises:
    InputError: The file cannot be read, is not UTF-8, has a wrong line, a
      document that is too long, or no text.
  """
  if _is_objects(path):
    documents = _from_objects(path, text_column, within, bad)
  else:
    documents = _from_text(path, unit, within, longest, bad)
  is_empty = True
  for document in documents:
    is_empty = False
    yield document
  if is_empty and not (bad and bad.messages):
    raise InputError(f'{path}: the file has no text.')


def hold_out(
  documents: Sequence[Document], fraction: float
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
  """Divides documents into a part to learn from and a part to test with.

  Documents are taken in the order of a hash of their ids until the share of
  characters is reached. The one that would exceed it is cut at a line end
  (a space, where there is none): what follows is held out. So one long text
  loses its end and many short ones are divided as they are. The result
  depends on the documents and the fraction alone.

  Args:
    documents: All documents.
    fraction: Share of the characters to hold out, above 0 and below 1.

  Returns:
    The documents to learn from and those held out, in their old order.

  Raises:
    InputError: One of the parts would be empty.
  """
  budget = round(fraction * sum(len(d.text) for d in documents))
  kept = dict(enumerate(documents))
  held: dict[int, Document] = {}
  for i in sorted(kept, key=lambda i: hash_rank(documents[i].id)):
    document = documents[i]
    if len(document.text) <= budget:
      held[i] = kept.pop(i)
      budget -= len(document.text)
      continue
    parts = _cut(document, len(document.text) - budget)
    if parts is not None:
      kept[i], held[i] = parts
    break
  if not kept or not held:
    raise InputError(
      f'config.options.validation_fraction={fraction} leaves no text for '
      f'{"validation" if kept else "training"}: the data has '
      f'{len(documents)} documents; give more text, another fraction or '
      'config.options.validation_file.'
    )
  return (
    tuple(kept[i] for i in sorted(kept)),
    tuple(held[i] for i in sorted(held)),
  )


def _from_text(
  path: pathlib.Path,
  unit: Unit,
  within: range | None,
  longest: int | None,
  bad: BadRows | None,
) -> Iterator[Document]:
  lines: Iterable[tuple[int, str]] = (
    (number, line.rstrip('\r\n'))
    for number, line in read_lines(path, within, bad)
  )
  head = first_bytes(path).decode('utf-8', 'replace').lstrip('\ufeff \r\n')
  is_marked = head.startswith(_WIKI_MARKS[0])
  block: list[str] = []
  begin, size = 1, 0
  for number, line in lines:
    if is_marked and line.startswith(_WIKI_MARKS):
      if block:
        yield _document(path, begin, block)
        block = []
      continue
    is_blank = _BLANK.match(line) is not None
    ends = unit == 'line' or (unit == 'paragraph' and is_blank)
    if not block:
      begin, size = number, 0
    if not is_blank or block:
      block.append(line)
      size += len(line)
    if longest is not None and size > longest:
      raise InputError(
        f'{path}:{begin}: one document has more than {longest:,} characters; '
        'use --documents=paragraph (blank lines between documents), or a '
        'larger --block_size.'
      )
    if ends and block:
      yield _document(path, begin, block)
      block = []
  if block:
    yield _document(path, begin, block)


def _from_objects(
  path: pathlib.Path, column: str, within: range | None, bad: BadRows | None
) -> Iterator[Document]:
  for number, row in read_objects(path, within, bad):
    try:
      lines = _lines_of(row, column, f'{path}:{number}')
    except InputError as error:
      bad_rows.refuse(error, bad)
      continue
    if any(line.strip() for line in lines):
      yield _document(path, number, lines)


def _lines_of(row: Mapping[str, Any], column: str, place: str) -> list[str]:
  if column not in row:
    raise InputError(
      f'{place}: there is no {column!r} (config.options.text_column); it '
      f'has {", ".join(map(repr, row)) or "nothing"}.'
    )
  value = row[column]
  lines = [value] if isinstance(value, str) else value
  if not isinstance(lines, list) or not all(
    isinstance(line, str) for line in lines
  ):
    raise InputError(
      f'{place}: {column!r} is of type {type(value).__name__}; expected a '
      'text or a list of texts.'
    )
  return lines


def _document(
  path: pathlib.Path, number: int, lines: Sequence[str]
) -> Document:
  # Names of wikiextractor's files are the same in all of its directories.
  is_wiki = _WIKI.fullmatch(plain_name(path.name))
  name = f'{path.parent.name}/{path.name}' if is_wiki else path.name
  return Document(f'{name}:{number}', '\n'.join(lines).rstrip())


def _cut(document: Document, place: int) -> tuple[Document, Document] | None:
  """Cuts a document at the first line end at or after `place`."""
  text = document.text
  for end in ('\n', ' '):
    at = text.find(end, place)
    first, second = text[:at].rstrip(), text[at + 1 :].strip()
    if at >= 0 and first and second:
      return (
        dataclasses.replace(document, text=first),
        Document(f'{document.id}+{at + 1}', second),
      )
  return None
