"""How a run fails: divergence, and errors from outside of the program.

Each becomes an exception whose message is one sentence that says what to do.

What a loss or gradient does that is infinite or not a number is said by
`config.nonfinite`: 'stop', or 'skip'. Then the compiled step itself leaves
weights and optimizer as they were (`train_step.unless_nonfinite`), and here it
is counted, as long as it stays an exception.
"""

import contextlib
import errno
import math
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError, RunError
from mobilebert_jax.training.run_state import RunState

# More skipped steps in a row are no accident of the data: nothing is learnt
# any more, and no later batch can change that.
MOST_SKIPPED_IN_A_ROW = 10
_WATCHED = ('loss', 'grad_norm')

# EFBIG: a limit on the size of files (ulimit -f); EDQUOT: of a user's share.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries that are not written in Python raise what they like.
_FULL_TEXTS = ('No space left on device', 'Disk quota exceeded',
               'File too large')  # fmt: skip
_MEMORY_TEXTS = ('RESOURCE_EXHAUSTED', 'Out of memory', 'out of memory')


class NonFiniteError(FloatingPointError):
  """Training diverged: a loss or gradient is infinite or not a number."""


def nonfinite_problem(values: Mapping[str, float]) -> str | None:
  """Returns what is not finite among a step's numbers; None: nothing."""
  for name in _WATCHED:
    if not math.isfinite(values[name]):
      return f'the {name} is {values[name]}'
  return None


def may_skip(run_state: RunState) -> bool:
  """Counts one more skipped step; returns whether there may be as many."""
  run_state.skipped_steps += 1
  run_state.skipped_in_a_row += 1
  return run_state.skipped_in_a_row <= MOST_SKIPPED_IN_A_ROW


def finite_values(values: Mapping[str, float]) -> dict[str, float]:
  """Returns the numbers that JSON can hold."""
  return {k: v for k, v in values.items() if math.isfinite(v)}


def diverged(
  problem: str, step: int, skipped: int, checkpoint: pathlib.Path | None
) -> NonFiniteError:
  """Returns what to raise when a run cannot go on.

  Args:
    problem: what is not finite.
    step: where.
    skipped: steps in a row that have been or would be skipped, this one among
      them; 0 if none is skipped.
    checkpoint: the last one that is complete; None: there is none.
  """
  last = f'the last good checkpoint is {checkpoint}'
  return NonFiniteError(
    f'{problem} at step {step}'
    + (f', after {skipped - 1} skipped ones' if skipped else '')
    + f'; {last if checkpoint else "no checkpoint yet"}; a lower '
    'optimizer.learning_rate or a longer warm-up may help.'
  )


@contextlib.contextmanager
def translate_errors(
  config: TrainConfig, workdir: pathlib.Path
) -> Iterator[None]:
  """Turns a full disk, too little memory and failed writes into `RunError`.

  Args:
    config: the run; its settings decide the memory.
    workdir: where it writes.
  """
  try:
    yield
  except (InputError, RunError):
    raise
  except Exception as error:
    sentence = _sentence(error, config, workdir)
    if sentence is None:
      raise
    raise RunError(sentence) from error


def data_error(step: int, error: Exception) -> Exception:
  """Returns what to raise when the batch of a step cannot be made."""
  if isinstance(error, InputError):
    return error
  return RunError(
    f'the batch of step {step} could not be made: {_describe(error)}; the '
    'same command continues when that is put right.'
  )


def _sentence(
  error: Exception, config: TrainConfig, workdir: pathlib.Path
) -> str | None:
  # The first error decides; closing files may have failed after it.
  chain = list(_chain(error))[::-1]
  if any(map(_is_full, chain)):
    names = filter(None, map(_file_in, chain))
    return _no_room(next(names, str(workdir)), workdir)
  for cause in chain:
    if isinstance(cause, MemoryError) or _is_device_memory(cause):
      return _no_memory(cause, config)
  if isinstance(error, TimeoutError):
    # Orbax looks at the clock of the day, which somebody may set.
    return (
      f'a save in {workdir} took too long, or the clock was set meanwhile '
      f'({error}); the checkpoints that were complete stay good, and the same '
      'command continues.'
    )
  if isinstance(error, OSError):
    return (
      f'{error.filename or "a file"} cannot be read or written: '
      f'{error.strerror or error}; the checkpoints in {workdir} are as they '
      'were, and the same command continues.'
    )
  return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an error and what it came from."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
  if isinstance(error, OSError) and error.errno in _FULL:
    return True
  return any(text in str(error) for text in _FULL_TEXTS)


def _no_room(name: str, workdir: pathlib.Path) -> str:
  free = '' if files.is_remote(workdir) else _free(workdir)
  return (
    f'{name} cannot be written: the disk is full, or the file larger than '
    f'allowed{free}; the checkpoints that were complete stay good; make room, '
    'and the same command continues.'
  )


def _file_in(error: BaseException) -> str | None:
  """Returns the file that could not be written, if the error names it."""
  if not _is_full(error):
    return None
  if getattr(error, 'filename', None):
    return str(error.filename)  # type: ignore[attr-defined]
  # A library's message; the mark is that of its unfinished files.
  match = re.search(r'"([^"]+?)(\.__lock)?"', str(error))
  return match.group(1) if match else None


def _free(workdir: pathlib.Path) -> str:
  """Says how much room there is, and how much the newest checkpoint takes."""
  text = f'; {_megabytes(shutil.disk_usage(workdir).free)} are free'
  sizes = {
    int(step.name): sum(f.stat().st_size for f in step.rglob('*'))
    for step in (workdir / 'checkpoints').glob('*')
    if step.name.isdecimal()
  }
  if sizes:
    text += f', and a checkpoint takes {_megabytes(sizes[max(sizes)])}'
  return text


def _megabytes(count: int) -> str:
  return f'{count / 1e6:,.1f} MB'


def _is_device_memory(error: BaseException) -> bool:
  import jax

  return isinstance(error, jax.errors.JaxRuntimeError) and any(
    text in str(error) for text in _MEMORY_TEXTS
  )


def _no_memory(error: BaseException, config: TrainConfig) -> str:
  """Names the settings that decide the memory, with what they are now."""
  size = re.search(r'allocat\w+ (\d+) bytes', str(error))
  asked = f' ({_megabytes(int(size.group(1)))} at once)' if size else ''
  return (
    f'the memory does not suffice{asked}; what helps, with the values of now: '
    f'a smaller batch_size ({config.batch_size}) or eval_batch_size '
    f'({config.eval_batch_size}), a larger accumulation_steps '
    f'({config.accumulation_steps}), remat=full ({config.remat}), '
    f'dtype=bfloat16 ({config.dtype}), a smaller data.max_length '
    f'({config.data.max_length}), optimizer.moments_dtype=bfloat16 '
    f'({config.optimizer.moments_dtype}), or a larger mesh.fsdp '
    f'({config.mesh.fsdp}) on several devices.'
  )


def _describe(error: BaseException) -> str:
  """Type and message on one line, with what the error came from."""
  parts = [
    f'{type(cause).__name__}: {" ".join(str(cause).split())}'
    for cause in _chain(error)
  ]
  return ', from '.join(parts[:3])
