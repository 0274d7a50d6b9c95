"""Tasks on the user's own text and tables.

Read `files` first: which file is which split, what is held out, the ids of
rows. Then one file a kind of task:

- `classification`: labels or numbers for texts, or pairs of texts
- `choice`: questions with choices
- `qa`: questions that spans of a text answer
- `tagging`: tags for words
"""

from mobilebert_jax.tasks.custom.choice import CUSTOM_CHOICE
from mobilebert_jax.tasks.custom.classification import (
  CUSTOM_CLASSIFICATION,
  CUSTOM_REGRESSION,
)
from mobilebert_jax.tasks.custom.qa import CUSTOM_QA
from mobilebert_jax.tasks.custom.tagging import CUSTOM_TAGGING

SPECS = (
  CUSTOM_CHOICE,
  CUSTOM_CLASSIFICATION,
  CUSTOM_QA,
  CUSTOM_REGRESSION,
  CUSTOM_TAGGING,
)
