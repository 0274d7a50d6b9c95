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

To add one: write its `Task` and `TaskSpec`, and name the spec here.
"""

from mobilebert_jax.tasks import (
  custom,
  glue,
  multiple_choice,
  pretraining,
)
from mobilebert_jax.tasks.entailment import ENTAILMENT
from mobilebert_jax.tasks.squad import SQUAD_V1, SQUAD_V2
from mobilebert_jax.tasks.tagging import benchmarks as tagging_benchmarks
from mobilebert_jax.tasks.task import Splits, Task, TaskSpec, fixed

TASKS = {
  spec.name: spec
  for spec in (
    fixed(ENTAILMENT),
    SQUAD_V1,
    SQUAD_V2,
    *glue.SPECS,
    *tagging_benchmarks.SPECS,
    *multiple_choice.SPECS,
    *pretraining.SPECS,
    *custom.SPECS,
  )
}

__all__ = ['TASKS', 'Splits', 'Task', 'TaskSpec']
