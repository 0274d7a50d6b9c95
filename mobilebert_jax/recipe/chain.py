"""Runs a recipe: vocabulary, data, and one run after another."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from mobilebert_jax import (
  attempt,
  distributed,
  files,
  lock,
  loop,
  preparation,
  pretraining_data,
)
from mobilebert_jax.data import documents
from mobilebert_jax.errors import InputError
from mobilebert_jax.recipe import plan, recipe, report, vocabulary
from mobilebert_jax.recipe.recipe import Recipe
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.workdir import Workdir


class Given(NamedTuple):
  """Where things are.

  Attributes:
    text: a text file or a directory of them.
    workdir: where everything is written.
    task_data: the files of the task that is fine-tuned on; None: none needed.
    workers: processes that write the examples for pre-training.
  """

  text: pathlib.Path
  workdir: pathlib.Path
  task_data: pathlib.Path | None = None
  workers: int = 1


def run(chain: Recipe, given: Given) -> dict[str, Any]:
  """Runs the chain, or continues where an earlier start stopped.

  Each run is an ordinary one, in a directory of its own below the workdir: it
  may be interrupted at any moment, and the result is the same to the bit.

  Args:
    chain: the recipe.
    given: where things are.

  Returns:
    What `recipe.json` holds.

  Raises:
    InputError: anything wrong with the recipe, the text or the files, found
      before the first run as far as possible; another chain in the workdir.
    NonFiniteError: a run diverged.
    RunError, Interrupted: as `loop.train`.
  """
  places = directories(given)
  distributed.agree(lambda: _check(chain, given, places))
  distributed.tell(plan.table(plan.rows(chain, resolve_runs(chain, places))))
  with lock.held(given.workdir):
    return _run(chain, given, places)


def _run(chain: Recipe, given: Given, places: dict[str, str]) -> dict[str, Any]:
  """The chain, alone in its workdir."""
  _learn_vocabulary(chain, given, places)
  _write_data(chain, given, places)
  done: dict[str, dict[str, Any]] = {}
  for number, (name, config) in enumerate(chain.runs.items(), start=1):
    distributed.tell(f'run {number} of {len(chain.runs)}: {name}')
    done[name] = loop.train(
      recipe.resolve(config, places), given.workdir / name
    )
    places[name] = str(Workdir(given.workdir / name).model)
    # Every run compiles programs of its own, which no later run uses.
    jax.clear_caches()
  summary = distributed.on_main(
    lambda: report.write(chain, given.workdir, done)
  )
  distributed.tell(report.closing_line(summary, given.workdir))
  return summary


def directories(given: Given) -> dict[str, str]:
  """What a run may name in braces, before any run is done."""
  places = {
    recipe.TEXT: str(given.text),
    recipe.VOCABULARY: str(given.workdir / recipe.VOCABULARY),
    recipe.DATA: str(given.workdir / recipe.DATA),
  }
  if given.task_data is not None:
    places[recipe.TASK_DATA] = str(given.task_data)
  return places


def _check(chain: Recipe, given: Given, places: Mapping[str, str]):
  """Finds what can be wrong before hours of work."""
  documents.find_files(given.text)
  if chain.needs_task_data() and given.task_data is None:
    raise InputError(
      'the recipe fine-tunes on files of yours: name them with --task_data=DIR.'
    )
  attempt.check_root(given.workdir)
  for name, resolved in resolve_runs(chain, places).items():
    try:
      preparation.make_mesh(resolved)
      _check_data(chain.runs[name], resolved)
    except InputError as error:
      raise InputError(f'{name}: {error}') from None


def resolve_runs(
  chain: Recipe, places: Mapping[str, str]
) -> dict[str, TrainConfig]:
  """The runs; what another run will make stays in braces."""
  runs = {name: f'{{{name}}}' for name in chain.runs}
  return {
    name: recipe.resolve(config, {**runs, **places})
    for name, config in chain.runs.items()
  }


def _check_data(config: TrainConfig, resolved: TrainConfig):
  """Reads the data of a run that does not wait for another part."""
  if config.data.path and f'{{{recipe.DATA}}}' in config.data.path:
    return
  task = preparation.find_task(resolved)
  for split in task.splits.all():
    task.load(resolved.data, split)


def _learn_vocabulary(chain: Recipe, given: Given, places: Mapping[str, str]):
  target = files.path(places[recipe.VOCABULARY])
  distributed.on_main(
    lambda: vocabulary.learn(
      chain.vocabulary,
      given.text,
      target,
      chain.data.documents,
      chain.data.text_column,
    )
  )


def _write_data(chain: Recipe, given: Given, places: Mapping[str, str]):
  """Every process writes its own blocks."""
  tokenizer = vocabulary.read(files.path(places[recipe.VOCABULARY]))
  shard = (distributed.process_index(), distributed.process_count())
  distributed.agree(
    lambda: pretraining_data.write(
      chain.data,
      [given.text],
      files.path(places[recipe.DATA]),
      tokenizer,
      shard,
      given.workers,
    )
  )
