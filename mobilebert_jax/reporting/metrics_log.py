"""`metrics.jsonl` and TensorBoard events; the one module with tensorboardX."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]


def read(path: str | os.PathLike[str]) -> list[Record]:
  """The complete lines of a metrics file; [] if it does not exist."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  records = []
  for line in path.read_text(encoding='utf-8').splitlines(keepends=True):
    # A kill while writing can leave the last line without its end.
    if line.endswith('\n'):
      records.append(json.loads(line))
  return records


class MetricsLog:
  """Writes one line for each logged step and each evaluation.

  Args of the constructor:
    directory: the workdir.
    last_step: what an interrupted run wrote beyond this step is dropped,
      because the run will write it again.
  """

  def __init__(self, directory: str | os.PathLike[str], last_step: int):
    from tensorboardX import SummaryWriter

    path = pathlib.Path(directory) / 'metrics.jsonl'
    kept = [record for record in read(path) if record['step'] <= last_step]
    partial = path.with_suffix('.partial')
    partial.write_text(''.join(map(_line, kept)), encoding='utf-8')
    os.replace(partial, path)
    self._file = path.open('a', encoding='utf-8')
    self._board = SummaryWriter(
      str(pathlib.Path(directory) / 'tensorboard'), purge_step=last_step + 1
    )

  def write(self, step: int, values: Mapping[str, float]):
    """Appends `values` of a step to both."""
    self._file.write(_line({'step': step, **values}))
    self._file.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def close(self):
    """Flushes and closes both."""
    self._file.close()
    self._board.close()

  def __enter__(self) -> 'MetricsLog':
    return self

  def __exit__(self, *error: object):
    self.close()


def _line(record: Record) -> str:
  return json.dumps(record) + '\n'
