"""Tasks on the user's own text and tables."""

from mobilebert_jax.tasks.masked_lm import MASKED_LM
from mobilebert_jax.tasks.next_sentence import NEXT_SENTENCE
from mobilebert_jax.tasks.own_choice import OWN_CHOICE
from mobilebert_jax.tasks.own_classification import OWN_CLASSIFICATION
from mobilebert_jax.tasks.own_qa import OWN_QA
from mobilebert_jax.tasks.own_regression import OWN_REGRESSION
from mobilebert_jax.tasks.own_tagging import OWN_TAGGING
from mobilebert_jax.tasks.pretraining import PRETRAINING

SPECS = (
  PRETRAINING,
  MASKED_LM,
  NEXT_SENTENCE,
  OWN_CHOICE,
  OWN_CLASSIFICATION,
  OWN_QA,
  OWN_REGRESSION,
  OWN_TAGGING,
)
