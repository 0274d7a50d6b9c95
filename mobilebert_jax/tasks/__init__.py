"""The tasks, by the name that a config gives."""

from mobilebert_jax.tasks.entailment import ENTAILMENT
from mobilebert_jax.tasks.mnli import MNLI
from mobilebert_jax.tasks.sst2 import SST2
from mobilebert_jax.tasks.task import Splits, Task

TASKS = {task.name: task for task in (ENTAILMENT, SST2, MNLI)}

__all__ = ['TASKS', 'Splits', 'Task']
