"""Tasks on the user's own text and tables.

Read `files` first: which file is which split, what is held out, the ids of
rows. Then one file a kind of task:

- `classification`: labels or numbers for texts, or pairs of texts
- `choice`: questions with choices
- `qa`: questions that spans of a text answer
- `tagging`: tags for words
"""

from mobilebert_jax.tasks.custom.choice import OWN_CHOICE
from mobilebert_jax.tasks.custom.classification import (
  OWN_CLASSIFICATION,
  OWN_REGRESSION,
)
from mobilebert_jax.tasks.custom.qa import OWN_QA
from mobilebert_jax.tasks.custom.tagging import OWN_TAGGING

SPECS = (
  OWN_CHOICE,
  OWN_CLASSIFICATION,
  OWN_QA,
  OWN_REGRESSION,
  OWN_TAGGING,
)
