"""The processes that write blocks."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from mobilebert_jax.pretraining_data.blocks import Block
from mobilebert_jax.runtime.errors import RunError


def each(
  write_block: Callable[[Block], int], missing: Sequence[Block], workers: int
) -> Iterator[int]:
  """The results of all blocks, as they come.

  Args:
    write_block: a picklable function.
    missing: what it is called with.
    workers: processes; 1: this one.

  Raises:
    RunError: a worker was killed.
  """
  if workers <= 1:
    yield from map(write_block, missing)
    return
  before = set(multiprocessing.active_children())
  # Not forked: this process may have threads, and JAX in it.
  context = multiprocessing.get_context('spawn')
  executor = ProcessPoolExecutor(workers, context, _begin_worker)
  try:
    jobs = [executor.submit(write_block, block) for block in missing]
    for job in as_completed(jobs):
      yield job.result()
  except BrokenProcessPool:
    raise RunError(
      'a worker process was killed, perhaps for want of memory; the same '
      'command with fewer --workers continues'
    ) from None
  except BaseException:
    # What is half-written has another name and is written anew.
    for child in set(multiprocessing.active_children()) - before:
      child.terminate()
    raise
  finally:
    executor.shutdown(cancel_futures=True)


def _begin_worker():
  """Each worker has one core, hears of Ctrl-C from its parent, dies with it."""
  os.environ['TOKENIZERS_PARALLELISM'] = 'false'
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  assert parent is not None

  def follow():
    parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()
