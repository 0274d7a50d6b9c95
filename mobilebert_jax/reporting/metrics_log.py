"""`metrics.jsonl` and TensorBoard events; the one module with tensorboardX."""

import contextlib
import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mobilebert_jax.runtime import distributed, files, object_store

Record = dict[str, Any]
_LINES = 'metrics.jsonl'
_BOARD = 'tensorboard'
_UPLOAD_SECONDS = 60


def read(path: str | os.PathLike[str]) -> list[Record]:
  """Returns the complete lines of a metrics file; [] if there is none."""
  path = files.path(path)
  if not path.exists():
    return []
  records = []
  for line in path.read_text(encoding='utf-8').splitlines(keepends=True):
    # A kill while writing can leave the last line without its end.
    if line.endswith('\n'):
      values = json.loads(line)
      # JSON has no number for a loss that is none.
      records.append(
        {k: math.nan if v is None else v for k, v in values.items()}
      )
  return records


class Place(Protocol):
  """Where metrics are shown, beside the workdir."""

  def write(self, step: int, values: Mapping[str, float]):
    """Takes the values of a step."""

  def close(self):
    """Takes no more."""


def start(
  directory: str | os.PathLike[str],
  last_step: int,
  others: Callable[[], Sequence[Place]] = tuple,
) -> 'MetricsLog | NoMetricsLog':
  """Returns the log of a run; of several processes the first one writes.

  Args:
    directory: the workdir.
    last_step: see `MetricsLog`.
    others: makes what the metrics go to beside it.

  Raises:
    InputError: one of these cannot be begun; on every process.
  """
  made = distributed.raise_on_all(
    lambda: others() if distributed.is_primary() else ()
  )
  if distributed.is_primary():
    return MetricsLog(directory, last_step, made)
  return NoMetricsLog()


class MetricsLog:
  """Writes one line for each logged step and each evaluation.

  Nothing can be appended to an object: for a workdir on gs:// the files are
  written on this machine, and uploaded at each `flush` and every
  `_UPLOAD_SECONDS`. A kill loses lines of steps behind the last checkpoint
  only, which are written again.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    last_step: int,
    others: Sequence[Place] = (),
  ):
    """Continues the files of an interrupted run, or begins them.

    Args:
      directory: the workdir.
      last_step: what an interrupted run wrote beyond this step is dropped,
        because the run will write it again.
      others: what gets the same values.
    """
    self._others = others
    self._target = files.path(directory)
    self._closing = contextlib.ExitStack()
    kept = [r for r in read(self._target / _LINES) if r['step'] <= last_step]
    self._local = self._target
    if files.is_remote(self._target):
      made = self._closing.enter_context(tempfile.TemporaryDirectory())
      self._local = pathlib.Path(made)
    path = files.write_lines(self._local / _LINES, map(files.json_text, kept))
    self._file = path.open('a', encoding='utf-8')
    self._board = _Board(self._local / _BOARD, last_step + 1)
    self._uploaded = time.monotonic()

  def write(self, step: int, values: Mapping[str, float]):
    """Appends `values` of a step to both."""
    self._file.write(files.json_text({'step': step, **values}) + '\n')
    self._file.flush()
    self._board.write(step, values)
    for other in self._others:
      other.write(step, values)
    if time.monotonic() - self._uploaded > _UPLOAD_SECONDS:
      self.flush()

  def flush(self):
    """Brings to gs:// what is there; call it before a checkpoint is saved."""
    if self._local == self._target:
      return
    for path in (self._local / _LINES, *(self._local / _BOARD).iterdir()):
      name = path.relative_to(self._local)
      object_store.upload(path, self._target / name)
    self._uploaded = time.monotonic()

  def close(self):
    """Flushes and closes both."""
    with self._closing:
      self.flush()
      self._file.close()
      self._board.close()
      for other in self._others:
        other.close()

  def __enter__(self) -> 'MetricsLog':
    return self

  def __exit__(self, *error: object):
    self.close()


class _Board:
  """TensorBoard events, written by the thread that has them.

  tensorboardX's SummaryWriter hands them to a thread of its own: when that
  cannot write, on a full disk, it ends, and the run waits for it for ever.
  """

  def __init__(self, directory: pathlib.Path, first_step: int):
    """Begins a new file of events.

    Args:
      directory: where it goes.
      first_step: events of this step and later ones in older files are void.
    """
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2

    self._event, self._scalar = event_pb2.Event, summary.scalar
    directory.mkdir(parents=True, exist_ok=True)
    # The name has the second of its start, which another start may have had.
    self._writer = EventsWriter(
      str(directory / 'events'), f'.{os.getpid()}.{time.monotonic_ns()}'
    )
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(first_step, session_log=start)

  def write(self, step: int, values: Mapping[str, float]):
    """Writes the values of a step."""
    for name, value in values.items():
      self._write(step, summary=self._scalar(name, value))
    self._writer.flush()

  def close(self):
    """Closes the file."""
    self._writer.close()

  def _write(self, step: int, **what: Any):
    event = self._event(step=step, wall_time=time.time(), **what)
    self._writer.write_event(event)


class NoMetricsLog:
  """The log of all processes but the first: it writes nothing."""

  def write(self, step: int, values: Mapping[str, float]):
    """Writes nothing."""

  def flush(self):
    """Uploads nothing."""

  def __enter__(self) -> 'NoMetricsLog':
    return self

  def __exit__(self, *error: object):
    pass
