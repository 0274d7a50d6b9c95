"""SQuAD: questions that spans of a text answer."""

from mobilebert_jax.tasks.squad.task import SQUAD_V1, SQUAD_V2, span_task

__all__ = [
  'SQUAD_V1',
  'SQUAD_V2',
  'span_task',
]
