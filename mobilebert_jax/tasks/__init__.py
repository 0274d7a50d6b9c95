"""The tasks, by the name that a config gives."""

from mobilebert_jax.tasks import glue, multiple_choice
from mobilebert_jax.tasks.custom import specs
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
    *specs.SPECS,
  )
}

__all__ = ['TASKS', 'Splits', 'Task', 'TaskSpec']
