"""A recipe as an experiment: vocabulary, data, and one run after another."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.readers import documents
from mobilebert_jax.experiments.experiment import Experiment, Summary
from mobilebert_jax.experiments.recipe import checks, data, plan, recipe, report
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.runtime import distributed
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


def run(chain: Recipe, given: Given) -> Summary:
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
  if chain.needs_task_data() and given.task_data is None:
    raise InputError(
      'the recipe fine-tunes on files of yours: name them with --task_data=DIR.'
    )
  return Chain(chain, given).run()


class Chain(Experiment):
  """A trial for each run of a recipe; each builds on those before it.

  Attributes:
    recipe: the recipe.
    given: where things are.
    checked: its runs, when they have been checked.
  """

  name = 'recipe'
  noun = 'run'
  is_chain = True

  def __init__(self, chain: Recipe, given: Given):
    paths = directories(given) | {
      name: str(Workdir(given.workdir / name).model) for name in chain.runs
    }
    configs = {
      name: recipe.resolve(config, paths) for name, config in chain.runs.items()
    }
    super().__init__(configs, given.workdir)
    self.recipe = chain
    self.given = given
    self.checked: dict[str, checks.CheckedRun] = {}

  def check(self):
    """Finds what can be wrong before hours of work."""
    documents.find_files(self.given.text)
    super().check()
    checks.check_parts(self.recipe, self.root)
    self.checked = checks.check_runs(
      self.recipe, resolve_runs(self.recipe, self.given)
    )

  def prepare(self, trials: Mapping[str, Trial]):
    """Says what is to be done; makes the vocabulary and the examples.

    The text is checked before either is written.
    """
    distributed.print_on_primary(plan.table(plan.stage_costs(self.checked)))
    chain, text = self.recipe, self.given.text
    vocabulary = self.root / recipe.VOCABULARY
    target = self.root / recipe.DATA

    def check_text() -> str:
      data.is_vocabulary_learnt(chain, text, vocabulary)
      return data.describe_held_out(chain, text, target)

    distributed.print_on_primary(distributed.run_on_primary(check_text))
    distributed.run_on_primary(
      lambda: data.learn_vocabulary(chain, text, vocabulary)
    )
    tokenizer = distributed.raise_on_all(lambda: read_vocabulary(vocabulary))
    # Every process writes its own blocks.
    shard = (distributed.process_index(), distributed.process_count())
    distributed.raise_on_all(
      lambda: data.write_examples(
        chain.data, text, target, tokenizer, shard, self.given.workers
      )
    )

  def summarize(self, trials: Mapping[str, Trial]) -> Summary:
    return report.summarize(
      self.root,
      {name: done.results for name, done in trials.items() if done.results},
      {name: config.batch_size for name, config in self.configs.items()},
    )

  def draw(self, summary: Summary):
    report.draw(self.picture_path, self.root, summary)

  def table(self, summary: Summary) -> list[str]:
    return report.table(summary, self.picture_path.name)

  def closing_line(self, summary: Summary) -> str:
    results = (
      f'{entry["name"]}: {report.best_score(entry["results"])}'
      for entry in summary['runs']
    )
    return (
      f'{"; ".join(results)}. The model is in {self.root / summary["model"]}, '
      f'the report in {self.table_path}.'
    )


def directories(given: Given) -> dict[str, str]:
  """Returns what a run may name in braces, before any run is done."""
  paths = {
    recipe.TEXT: str(given.text),
    recipe.VOCABULARY: str(given.workdir / recipe.VOCABULARY),
    recipe.DATA: str(given.workdir / recipe.DATA),
  }
  if given.task_data is not None:
    paths[recipe.TASK_DATA] = str(given.task_data)
  return paths


def resolve_runs(chain: Recipe, given: Given) -> dict[str, TrainConfig]:
  """Returns the runs with what the chain is to make still in braces."""
  made = (recipe.VOCABULARY, recipe.DATA, *chain.runs)
  paths = directories(given) | {name: f'{{{name}}}' for name in made}
  return {
    name: recipe.resolve(config, paths) for name, config in chain.runs.items()
  }


def read_vocabulary(target: pathlib.Path) -> MobileBertTokenizerFast:
  """Returns the vocabulary that process 0 has written.

  Raises:
    InputError: this process does not see it.
  """
  if not target.exists():
    raise InputError(
      f'{target} has been made by process 0, but process '
      f'{distributed.process_index()} does not see it: with several hosts '
      '--workdir must be a directory that all share, such as gs://BUCKET/RUN.'
    )
  return data.read_vocabulary(target)
