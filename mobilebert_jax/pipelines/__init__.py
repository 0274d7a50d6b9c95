"""Ready-made uses of the models, with transformers' result formats.

```python
from mobilebert_jax.pipelines import pipeline

fill = pipeline('fill-mask', 'google/mobilebert-uncased')
for guess in fill('Paris is the [MASK] of France.'):
  print(guess['token_str'], guess['score'])
```

In the order of reading:
  factory         `pipeline`: from a task's name and a model to its pipeline
  base            what all share: tokenizing, batching, the compiled model
  text_classification, token_classification, question_answering, fill_mask,
  multiple_choice, zero_shot, feature_extraction  one task each
  predict_kinds, predict_inputs  what `python -m mobilebert_jax.predict` does

The public names are loaded when they are first used (PEP 562): the help of a
command does not wait for jax.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mobilebert_jax.pipelines.base import ItemError, Pipeline
  from mobilebert_jax.pipelines.factory import PIPELINES, pipeline

__all__ = ['PIPELINES', 'ItemError', 'Pipeline', 'pipeline']


def __getattr__(name: str) -> Any:
  """Returns a public name from the module that defines it."""
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from mobilebert_jax.pipelines import base, factory

  return getattr(base if name in ('ItemError', 'Pipeline') else factory, name)


def __dir__() -> list[str]:
  """Returns the public names."""
  return sorted({*globals(), *__all__})
