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

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mobilebert_jax.pipelines.base import ItemError, Pipeline
  from mobilebert_jax.pipelines.factory import PIPELINES, pipeline
  from mobilebert_jax.pipelines.feature_extraction import FeatureExtraction
  from mobilebert_jax.pipelines.fill_mask import FillMask
  from mobilebert_jax.pipelines.multiple_choice import MultipleChoice
  from mobilebert_jax.pipelines.question_answering import QuestionAnswering
  from mobilebert_jax.pipelines.text_classification import TextClassification
  from mobilebert_jax.pipelines.token_classification import TokenClassification
  from mobilebert_jax.pipelines.zero_shot import ZeroShotClassification

# Public name -> the module that defines it.
_HOMES = {
  'FeatureExtraction': 'feature_extraction',
  'FillMask': 'fill_mask',
  'ItemError': 'base',
  'MultipleChoice': 'multiple_choice',
  'PIPELINES': 'factory',
  'Pipeline': 'base',
  'QuestionAnswering': 'question_answering',
  'TextClassification': 'text_classification',
  'TokenClassification': 'token_classification',
  'ZeroShotClassification': 'zero_shot',
  'pipeline': 'factory',
}

__all__ = [
  'PIPELINES',
  'FeatureExtraction',
  'FillMask',
  'ItemError',
  'MultipleChoice',
  'Pipeline',
  'QuestionAnswering',
  'TextClassification',
  'TokenClassification',
  'ZeroShotClassification',
  'pipeline',
]


def __getattr__(name: str) -> Any:
  """Returns a public name from the module that defines it."""
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_HOMES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  """Returns the public names."""
  return sorted({*globals(), *__all__})
