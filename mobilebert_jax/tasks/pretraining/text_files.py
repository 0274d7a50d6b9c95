"""Where tasks on running text find it: files, options, the held-out part."""

import pathlib

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import TextOptions
from mobilebert_jax.data.readers import documents
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.task import Splits

# Running text has nothing to hand in, so there is no test split.
SPLITS = Splits(test=())


def load(
  options: TextOptions, data: DataConfig, split: str
) -> tuple[Document, ...]:
  """The documents of a split, in the order of the files.

  Raises:
    InputError: No text there, a wrong line, or no text left for a split.
  """
  is_train = split == SPLITS.train
  train, validation = _files(options, data)
  if validation:
    found = _read(options, train if is_train else validation)
  else:
    parts = documents.hold_out(
      _read(options, train), options.validation_fraction
    )
    found = parts[0] if is_train else parts[1]
  return found[: data.limit(is_train=is_train)]


def _files(
  options: TextOptions, data: DataConfig
) -> tuple[tuple[pathlib.Path, ...], tuple[pathlib.Path, ...]]:
  """The files to learn from and those to test with, if they are named."""
  if data.source != 'files' or data.path is None:
    raise InputError(
      f'config.data.source={data.source!r} does not fit a task on your own '
      'text; use '
      '"files" and set config.data.path to a text file or a directory'
    )
  root = files.path(data.path)
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
      'of the text; give text to learn from as well'
    )
  return train, validation


def _read(
  options: TextOptions, paths: tuple[pathlib.Path, ...]
) -> tuple[Document, ...]:
  return tuple(
    document
    for path in paths
    for document in documents.read_documents(
      path, options.documents, options.text_column
    )
  )
