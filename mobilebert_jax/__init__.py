"""MobileBERT in JAX: use, fine-tune, convert and export.

The public names are loaded when they are first used (PEP 562), so that neither
`import mobilebert_jax` nor the help of a command waits for jax.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mobilebert_jax.config.model import MobileBertConfig
  from mobilebert_jax.convert.pretrained import (
    from_pretrained,
    resize_token_embeddings,
    save_pretrained,
    take_layers,
  )
  from mobilebert_jax.models import (
    Compute,
    MobileBertForMaskedLM,
    MobileBertForMultipleChoice,
    MobileBertForNextSentencePrediction,
    MobileBertForPreTraining,
    MobileBertForQuestionAnswering,
    MobileBertForSequenceClassification,
    MobileBertForTokenClassification,
    MobileBertModel,
    init_params,
  )
  from mobilebert_jax.pipelines import pipeline
  from mobilebert_jax.runtime.compiler_options import compiler_options
  from mobilebert_jax.runtime.errors import InputError
  from mobilebert_jax.tokenizer import (
    MobileBertTokenizer,
    MobileBertTokenizerFast,
    train_wordpiece,
  )

__all__ = [
  'Compute',
  'InputError',
  'MobileBertConfig',
  'MobileBertForMaskedLM',
  'MobileBertForMultipleChoice',
  'MobileBertForNextSentencePrediction',
  'MobileBertForPreTraining',
  'MobileBertForQuestionAnswering',
  'MobileBertForSequenceClassification',
  'MobileBertForTokenClassification',
  'MobileBertModel',
  'MobileBertTokenizer',
  'MobileBertTokenizerFast',
  'compiler_options',
  'from_pretrained',
  'init_params',
  'pipeline',
  'resize_token_embeddings',
  'save_pretrained',
  'take_layers',
  'train_wordpiece',
]
# Module -> the public names that it defines; the others are `models`'.
_HOMES = {
  'config.model': ('MobileBertConfig',),
  'convert.pretrained': (
    'from_pretrained',
    'resize_token_embeddings',
    'save_pretrained',
    'take_layers',
  ),
  'pipelines': ('pipeline',),
  'runtime.compiler_options': ('compiler_options',),
  'runtime.errors': ('InputError',),
  'tokenizer': (
    'MobileBertTokenizer',
    'MobileBertTokenizerFast',
    'train_wordpiece',
  ),
}
_HOME_OF = dict.fromkeys(__all__, 'models') | {
  name: home for home, names in _HOMES.items() for name in names
}


def __getattr__(name: str) -> Any:
  """Loads a public name, or a module such as `losses`."""
  if name in _HOME_OF:
    home = importlib.import_module(f'{__name__}.{_HOME_OF[name]}')
    result = globals()[name] = getattr(home, name)
    return result
  is_module = name.isidentifier() and not name.startswith('_')
  if is_module and importlib.util.find_spec(f'{__name__}.{name}'):
    return importlib.import_module(f'{__name__}.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
