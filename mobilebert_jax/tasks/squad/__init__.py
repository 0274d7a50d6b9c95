"""SQuAD: questions that spans of a text answer.

- `task`: loss, scores, prediction files; SQuAD 1.1 and 2.0
- `windows`: from questions to rows of tokens, long texts in windows
- `answers`: from start and end logits to answers, and to the official files
"""

from mobilebert_jax.tasks.squad.task import SQUAD_V1, SQUAD_V2, span_task

SPECS = (SQUAD_V1, SQUAD_V2)

__all__ = [
  'SPECS',
  'SQUAD_V1',
  'SQUAD_V2',
  'span_task',
]
