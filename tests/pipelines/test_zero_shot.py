"""Zero-shot classification takes the model's classes by their names."""

import numpy as np
import pytest

from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.pipelines.zero_shot import ZeroShotClassification
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support.convert_models import tiny

_WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] a'.split()


def _pipeline(**labels):
  model, params = tiny(MobileBertForSequenceClassification, **labels)
  return ZeroShotClassification(model, params, MobileBertTokenizerFast(_WORDS))


@pytest.mark.parametrize(
  ('names', 'yes', 'no'),
  [
    (('contradiction', 'neutral', 'entailment'), 2, 0),
    (('neutral', 'contradiction', 'ENTAILMENT'), 2, 1),
    (('contradiction', 'entailment', 'neutral'), 1, 0),
    (('neutral', 'Entailment', 'Contradiction'), 1, 2),
    (('entailment', 'contradiction', 'neutral'), 0, 1),
    (('entailment', 'neutral', 'contradiction'), 0, 2),
    (('not_entailment', 'entailment'), 1, 0),
    (('entailment', 'other'), 0, 1),
  ],
)
def test_zero_shot_takes_classes_by_their_names(names, yes, no):
  pipe = _pipeline(id2label=dict(enumerate(names)))
  logits = np.arange(len(names)) * np.array(0.5)
  pipe.run = lambda rows: [{'logits': logits} for _ in rows]
  result = pipe('a', ['b'])
  odds = np.exp(logits[[yes, no]])
  assert result['scores'] == pytest.approx([odds[0] / odds.sum()])


def test_zero_shot_asks_where_no_name_tells():
  pipe = _pipeline(num_labels=3)
  pipe.run = lambda rows: [{'logits': np.array([1.0, 0, 3])} for _ in rows]
  with pytest.raises(InputError, match='pass entailment='):
    pipe('a', ['b'])
  with pytest.raises(InputError, match='pass contradiction='):
    pipe('a', ['b'], entailment='label_2')
  with pytest.raises(InputError, match="'x' must be one of the labels"):
    pipe('a', ['b'], entailment='x')
  result = pipe('a', ['b'], entailment='LABEL_2', contradiction='LABEL_0')
  assert result['scores'] == pytest.approx([1 / (1 + np.exp(-2))])
