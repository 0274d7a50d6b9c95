"""Texts, or pairs of texts, in the columns of the user's own tables."""

import pathlib
from collections.abc import Callable
from typing import Any

from mobilebert_jax.config.task_options import TextColumns
from mobilebert_jax.data.readers.tables import Row
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.custom import files

# What a row is labelled with.
ReadLabel = Callable[[Row], Any]


def read(
  options: TextColumns, path: pathlib.Path, read_label: ReadLabel | None
) -> list[TextExample]:
  """Reads a table.

  Args:
    options: Names of the columns.
    path: See `tables.read_table`.
    read_label: Gives a row's label; None: there is no label column.

  Raises:
    InputError: As `read_table`; or a row has no text, a cell of a wrong type,
      or the id of another row; or `read_label` finds a mistake.
  """
  texts = [options.text_column]
  if options.pair_column is not None:
    texts.append(options.pair_column)
  labels = [] if read_label is None else [options.label_column]
  examples = []
  rows = files.read_rows(path, [*texts, *labels], options.id_column)
  for id_, row in rows:
    text, *pair = (row.text(column) for column in texts)
    # As in GLUE, one of the two may be empty.
    if not any(part.strip() for part in (text, *pair)):
      raise row.wrong(options.text_column, 'expected a text')
    label = None if read_label is None else read_label(row)
    examples.append(TextExample(id_, text, pair[0] if pair else None, label))
  return examples
