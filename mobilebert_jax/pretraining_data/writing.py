"""Writes a prepared data set: plan, blocks (in processes), and a summary."""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from mobilebert_jax.data.records import prepared, record_files
from mobilebert_jax.pretraining_data import blocks
from mobilebert_jax.pretraining_data.blocks import Block, BlockPlan
from mobilebert_jax.pretraining_data.examples import Counts, Writer
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime import files, lock
from mobilebert_jax.runtime.errors import InputError, RunError
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tokenizer import MobileBertTokenizer

_LOCK = '.lock'


class Job(NamedTuple):
  """What writes a block, here or in another process.

  Attributes:
    directory: the data set.
    blocks: how many blocks it has.
    options: of the data set.
    tokenizer: a `MobileBertTokenizer`.
  """

  directory: pathlib.Path
  blocks: int
  options: PretrainingDataOptions
  tokenizer: MobileBertTokenizer

  def write(self, block: Block) -> int:
    """Writes a block's records, and behind them its counts.

    Several processes may be at the same block.

    Returns:
      The block's number of characters.

    Raises:
      InputError: the text has changed.
    """
    counts = Counts()
    writer = Writer(self.options, self.tokenizer)
    target = self.directory / prepared.records_name(block.number, self.blocks)
    documents = blocks.read(block, self.options)
    record_files.write_array_record(
      target, writer.records(documents, block.number, counts)
    )
    files.write_json(
      self.directory / prepared.counts_name(block.number, self.blocks),
      dataclasses.asdict(counts),
      unique=True,
    )
    return block.characters

  def is_written(self, block: Block) -> bool:
    """Returns whether both files of a block are there."""
    records = prepared.records_name(block.number, self.blocks)
    return (self.directory / records).exists() and (
      self.counts(block.number) is not None
    )

  def counts(self, number: int) -> Counts | None:
    """Reads the counts of a block; None if they are not there.

    What another version has counted otherwise is not either.
    """
    path = self.directory / prepared.counts_name(number, self.blocks)
    if not path.exists():
      return None
    content = files.read_json(path, prepared.CONTENT)
    names = {field.name for field in dataclasses.fields(Counts)}
    return Counts(**content) if set(content) == names else None


def write(
  options: PretrainingDataOptions,
  inputs: Sequence[files.Name],
  output: files.Name,
  tokenizer: MobileBertTokenizer,
  shard: tuple[int, int] = (0, 1),
  workers: int = 1,
) -> dict[str, Any] | None:
  """Writes the blocks of one shard that are not there yet.

  The files are the same, byte for byte, for any number of shards and workers,
  and wherever an earlier call was stopped.

  Args:
    options: what the records are.
    inputs: text files and directories of text files.
    output: the data set's directory; made if it is not there.
    tokenizer: a `MobileBertTokenizer`.
    shard: (i, n) writes the blocks i, i + n, i + 2n, ...
    workers: processes that write; each holds one block in memory.

  Returns:
    What dataset.json holds; None while blocks of other shards are missing.

  Raises:
    InputError: wrong text, another data set in `output`, another process that
      is writing this shard there, or a shard or number of workers that cannot
      be; nothing is written then. Or no block has a record, which is known
      when all are written.
    RunError: a full disk, or a worker that was killed.
  """
  index, count = shard
  if not 0 <= index < count:
    raise InputError(
      f'--shard={index}/{count}: the first number must be from 0 to '
      f'{count - 1}, the number of shards less one.'
    )
  if workers < 1:
    raise InputError(f'--workers={workers}: there must be at least 1.')
  # A layout without room is found before the text is read.
  Writer(options, tokenizer)
  plan = blocks.plan(inputs, options)
  directory = files.path(output)
  with _errors_of_disk(directory):
    settings = claim(plan, options, tokenizer, directory)
    job = Job(directory, len(plan.blocks), options, tokenizer)
    with only_writer(directory, f'shard-{index}-of-{count}'):
      mine = plan.blocks[index::count]
      _remove_partials(job, mine, count)
      missing = [block for block in mine if not job.is_written(block)]
      _write_all(job, missing, workers)
    return finish(job, settings)


def only_writer(
  directory: pathlib.Path, who: str
) -> contextlib.AbstractContextManager[None]:
  """Locks the data set for the blocks that `who` writes.

  Args:
    directory: the data set, which has been claimed.
    who: what this process writes.
  """
  # Ignored by `claim`, as all names that begin so.
  return lock.only_writer(directory, f'{prepared.SETTINGS}.{who}{_LOCK}')


def claim(
  plan: BlockPlan,
  options: PretrainingDataOptions,
  tokenizer: MobileBertTokenizer,
  directory: pathlib.Path,
) -> dict[str, Any]:
  """Makes the directory and writes settings.json.

  Returns:
    What settings.json holds.

  Raises:
    InputError: it holds another data set; the message lists the differences.
  """
  state = json.dumps(tokenizer.files(), sort_keys=True)
  settings = {
    'format': prepared.FORMAT,
    'options': dataclasses.asdict(options),
    'tokenizer': hashlib.sha256(state.encode()).hexdigest(),
    'vocabulary': prepared.vocabulary_hash(tokenizer),
    'text': plan.sha256,
    'documents': plan.documents,
    'characters': plan.characters,
    'blocks': len(plan.blocks),
  }
  if directory.exists() and not directory.is_dir():
    raise InputError(f'{directory} is a file; give a directory.')
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / prepared.SETTINGS
  if not path.exists():
    # A store has no empty directories.
    items = directory.iterdir() if directory.is_dir() else ()
    others = sorted(item.name for item in items)
    others = [name for name in others if not name.startswith(prepared.SETTINGS)]
    if others:
      raise InputError(
        f'{directory} holds something else ({others[0]}); name a directory of '
        'its own for the data set.'
      )
    text = json.dumps(settings, indent=2, sort_keys=True) + '\n'
    # Other shards may be doing the same.
    files.write_text(path, text, unique=True)
  differences = _differences(prepared.read_settings(directory), settings)
  if differences:
    raise InputError(
      f'{directory} holds another data set ({"; ".join(differences)}); use '
      'another --output, or delete it.'
    )
  return settings


def finish(job: Job, settings: dict[str, Any]) -> dict[str, Any] | None:
  """Writes dataset.json if every block is there; None if not.

  Raises:
    InputError: no block has a record.
  """
  written = [job.counts(number) for number in range(job.blocks)]
  counts = [dataclasses.asdict(c) for c in written if c is not None]
  if len(counts) < job.blocks:
    return None
  total = {key: sum(c[key] for c in counts) for key in counts[0]}
  if not total['examples']:
    is_pair = job.options.next_sentence
    needed = 'two documents with a token' if is_pair else 'a token'
    raise InputError(
      f'{job.directory}: no block of the text has {needed} that the tokenizer '
      'knows, so that there is no example: '
      f'{_cause(Counts(**total), settings["documents"])}.'
    )
  summary = {
    **settings,
    'counts': total,
    'examples_per_block': [c['examples'] for c in counts],
  }
  text = json.dumps(summary, indent=2, sort_keys=True) + '\n'
  files.write_text(job.directory / prepared.DATASET, text, unique=True)
  return summary


def _cause(counts: Counts, documents: int) -> str:
  """Says why a text gives no example, and what helps."""
  if not counts.tokens:
    return f'none of the {documents:,} documents has a token'
  if counts.unknown == counts.tokens:
    return (
      f'all {counts.tokens:,} tokens are [UNK]; use a tokenizer for the '
      "text's language"
    )
  if counts.documents < 2:
    return (
      f'of {documents:,} documents one alone has a token, and a random next '
      'sentence comes from another one; use --documents=paragraph (blank lines '
      'between documents), or --no-next_sentence'
    )
  return (
    f'the {counts.documents:,} documents with a token are in blocks of their '
    'own; use a larger --block_size'
  )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
  names = {'text': 'the text', 'tokenizer': 'the tokenizer'}
  differences = [
    f'{what} is another one'
    for name, what in names.items()
    if there.get(name) != here[name]
  ]
  old = there.get('options', {})
  differences += [
    f'{name} is {old.get(name)!r} there and {value!r} here'
    for name, value in here['options'].items()
    if old.get(name) != value
  ]
  if not differences and there != here:
    differences.append(
      f'format {there.get("format")} there, {here["format"]} here'
    )
  return differences


def _remove_partials(job: Job, mine: Sequence[Block], count: int):
  """Removes partial files that killed writers of these blocks left.

  None of it is in use: this process has the shard, and others of `count` have
  other blocks. Where the work is, or was, divided otherwise too, all stays.
  """
  # Found before the locks: what another writer begins from here on is not.
  leftovers = files.partials(job.directory)
  if not leftovers:
    return
  locks = [path.name for path in job.directory.glob(f'*{_LOCK}')]
  if not all(name.endswith(f'-of-{count}{_LOCK}') for name in locks):
    return
  names = {
    make(block.number, job.blocks)
    for block in mine
    for make in (prepared.records_name, prepared.counts_name)
  }
  for path, target in leftovers.items():
    if target in names:
      path.unlink(missing_ok=True)


def _write_all(job: Job, missing: Sequence[Block], workers: int):
  total = sum(block.characters for block in missing)
  with Work('preparing data', 'characters') as work:
    done = 0
    for characters in _each_block(
      job.write, missing, min(workers, len(missing))
    ):
      done += characters
      work.is_at(done, total)


@contextlib.contextmanager
def _errors_of_disk(directory: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise RunError(
      f'{error.filename or directory} cannot be written: '
      f'{error.strerror or error}; the same command continues when that is '
      'put right.'
    ) from error


def _each_block(
  write_block: Callable[[Block], int], missing: Sequence[Block], workers: int
) -> Iterator[int]:
  """Yields the results of all blocks, as they come.

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
      'command with fewer --workers continues.'
    ) from None
  except BaseException:
    # What is half-written has another name and is written anew.
    for child in set(multiprocessing.active_children()) - before:
      child.terminate()
    raise
  finally:
    executor.shutdown(cancel_futures=True)


def _begin_worker():
  """Sets a worker up: one core, Ctrl-C ignored, ends with its parent."""
  os.environ['TOKENIZERS_PARALLELISM'] = 'false'
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  assert parent is not None

  def follow():
    parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()
