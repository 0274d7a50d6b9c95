"""Files of predictions, written whole or not at all."""

import os
import pathlib
from collections.abc import Iterable


def write_lines(path: pathlib.Path, lines: Iterable[str]) -> pathlib.Path:
  """Writes lines to a file in UTF-8, which then is there as a whole.

  Args:
    path: The file; its directory exists.
    lines: The lines without their ends.

  Returns:
    `path`.
  """
  partial = path.with_name(f'{path.name}.partial')
  text = ''.join(f'{line}\n' for line in lines)
  # '\n' on every system: the official scorers know no other line end.
  partial.write_text(text, encoding='utf-8', newline='\n')
  os.replace(partial, path)
  return path
