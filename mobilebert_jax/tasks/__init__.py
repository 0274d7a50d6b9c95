"""The tasks, by the name that a config gives."""

from mobilebert_jax.tasks.entailment import ENTAILMENT
from mobilebert_jax.tasks.mnli import MNLI
from mobilebert_jax.tasks.sst2 import SST2
from mobilebert_jax.tasks.task import Splits, Task, TaskSpec, fixed

TASKS = {
  spec.name: spec for spec in (fixed(ENTAILMENT), fixed(SST2), fixed(MNLI))
}

__all__ = ['TASKS', 'Splits', 'Task', 'TaskSpec']
