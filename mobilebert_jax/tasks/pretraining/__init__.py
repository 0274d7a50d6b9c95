"""Pre-training on running text.

- `load`: what is learnt from: documents, prepared records, or TFRecords
- `masked_lm`: the masked language model alone, on the user's own text
- `next_sentence`: next-sentence prediction alone, on the user's own text
- `task`: both objectives, as BERT and MobileBERT are pre-trained

How tokens are masked and sequences are made: `mobilebert_jax.data.examples`.
"""

from mobilebert_jax.tasks.pretraining.masked_lm import MASKED_LM
from mobilebert_jax.tasks.pretraining.next_sentence import NEXT_SENTENCE
from mobilebert_jax.tasks.pretraining.task import PRETRAINING

SPECS = (PRETRAINING, MASKED_LM, NEXT_SENTENCE)
