"""The tasks, by the name that a config gives.

Read `task` first: a `Task` is a record of functions, all that the training
loop knows about one. A head's kind of task:

- `classification`, with `targets`: one class, several, or a number for a text
- `multiple_choice`: which of several texts; SWAG, RACE, CommonsenseQA
- `squad`: a span of a text
- `tagging`: a tag for each word; CoNLL-2003, WNUT-17
- `pretraining`: masked language modelling and next-sentence prediction

Tasks made of these: `entailment` (the quickstart, generated from a seed),
`glue`, and `custom` (the user's own data). `prediction_files` writes what has
no official format. Reading and batching lie below, in `mobilebert_jax.data`.

To add one: write its `Task` and `TaskSpec` in a module's `SPECS`, name that
module here, and its options in `config/task_options.py`. A task's module is
imported when the task is asked for. A task with the form of GLUE's needs no
module: it is a row of `glue.TABLE`.
"""

import importlib
from collections.abc import Iterator, MutableMapping

from mobilebert_jax.config import task_options
from mobilebert_jax.tasks.task import Splits, Task, TaskSpec

# Module of this package -> the tasks in its `SPECS`.
_MODULES = {
  'entailment': ('entailment',),
  'squad': ('squad_v1', 'squad_v2'),
  'glue': (
    'cola',
    'sst2',
    'mrpc',
    'stsb',
    'qqp',
    'mnli',
    'qnli',
    'rte',
    'wnli',
  ),
  'tagging.benchmarks': ('conll2003', 'wnut17'),
  'multiple_choice': ('swag', 'commonsenseqa', 'race'),
  'pretraining': ('pretraining', 'masked_lm', 'next_sentence'),
  'custom': (
    'custom_choice',
    'custom_classification',
    'custom_qa',
    'custom_regression',
    'custom_tagging',
  ),
}
_MODULE_OF = {
  name: module for module, names in _MODULES.items() for name in names
}


class _Tasks(MutableMapping[str, TaskSpec]):
  """The specs by name, in the order of `OPTIONS`; imported when asked for."""

  def __init__(self):
    self._specs: dict[str, TaskSpec] = {}

  def __getitem__(self, name: str) -> TaskSpec:
    if name not in self._specs:
      module = importlib.import_module(f'{__name__}.{_MODULE_OF[name]}')
      self._specs |= {
        spec.name: spec for spec in module.SPECS if spec.name not in self._specs
      }
    return self._specs[name]

  def __setitem__(self, name: str, spec: TaskSpec):
    self._specs[name] = spec

  def __delitem__(self, name: str):
    del self._specs[name]

  def __contains__(self, name: object) -> bool:
    return name in task_options.OPTIONS

  def __iter__(self) -> Iterator[str]:
    return iter(task_options.OPTIONS)

  def __len__(self) -> int:
    return len(task_options.OPTIONS)


TASKS = _Tasks()

__all__ = ['TASKS', 'Splits', 'Task', 'TaskSpec']
