"""Runs a recipe: vocabulary, data, and one run after another."""

import pathlib
from typing import Any, NamedTuple

import jax

from mobilebert_jax import launch
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.readers import documents
from mobilebert_jax.experiments import trial
from mobilebert_jax.experiments.recipe import checks, data, plan, recipe, report
from mobilebert_jax.experiments.recipe import data as recipe_data
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.runtime import distributed, lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training.workdir import Workdir


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
      before anything is written as far as possible; another chain in the
      workdir, or what is left there of a part that was deleted.
    NonFiniteError: a run diverged.
    RunError, Interrupted: as `launch.train`.
  """
  runs = distributed.agree(lambda: _check(chain, given))
  distributed.tell(plan.table(plan.stage_costs(runs)))
  with lock.held(given.workdir):
    return _run(chain, given)


def _run(chain: Recipe, given: Given) -> dict[str, Any]:
  """The chain, alone in its workdir."""
  _prepare(chain, given)
  places = directories(given)
  done: dict[str, dict[str, Any]] = {}
  for number, (name, config) in enumerate(chain.runs.items(), start=1):
    distributed.tell(f'run {number} of {len(chain.runs)}: {name}')
    done[name] = launch.train(
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


def resolve_runs(chain: Recipe, given: Given) -> dict[str, TrainConfig]:
  """The runs before anything is made: what the chain makes stays in braces."""
  made = (recipe.VOCABULARY, recipe.DATA, *chain.runs)
  places = directories(given) | {name: f'{{{name}}}' for name in made}
  return {
    name: recipe.resolve(config, places) for name, config in chain.runs.items()
  }


def _check(chain: Recipe, given: Given) -> dict[str, checks.CheckedRun]:
  """Finds what can be wrong before hours of work."""
  documents.find_files(given.text)
  if chain.needs_task_data() and given.task_data is None:
    raise InputError(
      'the recipe fine-tunes on files of yours: name them with --task_data=DIR.'
    )
  trial.check_root(given.workdir)
  checks.check_parts(chain, given.workdir)
  return checks.check_runs(chain, resolve_runs(chain, given))


def _prepare(chain: Recipe, given: Given):
  """Vocabulary and data; the text is checked before either is written."""
  learnt = given.workdir / recipe.VOCABULARY
  target = given.workdir / recipe.DATA

  def check_text() -> str:
    recipe_data.is_vocabulary_learnt(chain, given.text, learnt)
    return data.describe_held_out(chain, given.text, target)

  distributed.tell(distributed.on_main(check_text))
  distributed.on_main(
    lambda: recipe_data.learn_vocabulary(chain, given.text, learnt)
  )
  tokenizer = distributed.agree(lambda: read_vocabulary(learnt))
  # Every process writes its own blocks.
  shard = (distributed.process_index(), distributed.process_count())
  distributed.agree(
    lambda: data.write_examples(
      chain.data, given.text, target, tokenizer, shard, given.workers
    )
  )


def read_vocabulary(target: pathlib.Path) -> MobileBertTokenizerFast:
  """The vocabulary that process 0 has written.

  Raises:
    InputError: this process does not see it.
  """
  if not target.exists():
    raise InputError(
      f'{target} has been made by process 0, but process '
      f'{distributed.process_index()} does not see it: with several hosts '
      '--workdir must be a directory that all share, such as gs://BUCKET/RUN.'
    )
  return recipe_data.read_vocabulary(target)
