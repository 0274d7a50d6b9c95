"""MobileBERT in JAX: use, fine-tune, convert and export."""

from mobilebert_jax.config.model import MobileBertConfig as MobileBertConfig
from mobilebert_jax.convert.pretrained import from_pretrained as from_pretrained
from mobilebert_jax.convert.pretrained import (
  resize_token_embeddings as resize_token_embeddings,
)
from mobilebert_jax.convert.pretrained import save_pretrained as save_pretrained
from mobilebert_jax.models import Compute as Compute
from mobilebert_jax.models import MobileBertForMaskedLM as MobileBertForMaskedLM
from mobilebert_jax.models import (
  MobileBertForMultipleChoice as MobileBertForMultipleChoice,
)
from mobilebert_jax.models import (
  MobileBertForNextSentencePrediction as MobileBertForNextSentencePrediction,
)
from mobilebert_jax.models import (
  MobileBertForPreTraining as MobileBertForPreTraining,
)
from mobilebert_jax.models import (
  MobileBertForQuestionAnswering as MobileBertForQuestionAnswering,
)
from mobilebert_jax.models import (
  MobileBertForSequenceClassification as MobileBertForSequenceClassification,
)
from mobilebert_jax.models import (
  MobileBertForTokenClassification as MobileBertForTokenClassification,
)
from mobilebert_jax.models import MobileBertModel as MobileBertModel
from mobilebert_jax.models import init_params as init_params
from mobilebert_jax.pipelines import pipeline as pipeline
from mobilebert_jax.runtime.errors import InputError as InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer as MobileBertTokenizer
from mobilebert_jax.tokenizer import (
  MobileBertTokenizerFast as MobileBertTokenizerFast,
)
from mobilebert_jax.tokenizer import train_wordpiece as train_wordpiece
