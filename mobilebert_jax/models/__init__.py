"""The architecture: pure functions of (params, inputs), as Linen modules.

In the order in which to read:

  model: the arguments of a call; embeddings, encoder, pooler.
  embeddings: words, trigram, positions, token types.
  encoder: bottlenecks, stacked FFNs, the block, the stack of blocks.
  attention: self-attention, and masks.
  heads, lm_head: the seven models with heads.
  outputs: what the models return.
  layers: Dense, Embed, NoNorm and LayerNorm, the activations (ACT2FN).
  packing: rows that hold several examples.
  compute: dtypes, loop over the layers, rematerialisation.
  init: initial parameters and their shapes.
  partitioning: logical axes, and how a mesh divides them.
"""

from mobilebert_jax.models.attention import SelfAttention as SelfAttention
from mobilebert_jax.models.compute import Compute as Compute
from mobilebert_jax.models.embeddings import (
  MobileBertEmbeddings as MobileBertEmbeddings,
)
from mobilebert_jax.models.encoder import Bottleneck as Bottleneck
from mobilebert_jax.models.encoder import Encoder as Encoder
from mobilebert_jax.models.encoder import FeedForwardStack as FeedForwardStack
from mobilebert_jax.models.encoder import OutputBottleneck as OutputBottleneck
from mobilebert_jax.models.heads import (
  MobileBertForMaskedLM as MobileBertForMaskedLM,
)
from mobilebert_jax.models.heads import (
  MobileBertForMultipleChoice as MobileBertForMultipleChoice,
)
from mobilebert_jax.models.heads import (
  MobileBertForNextSentencePrediction as MobileBertForNextSentencePrediction,
)
from mobilebert_jax.models.heads import (
  MobileBertForPreTraining as MobileBertForPreTraining,
)
from mobilebert_jax.models.heads import (
  MobileBertForQuestionAnswering as MobileBertForQuestionAnswering,
)
from mobilebert_jax.models.heads import (
  MobileBertForSequenceClassification as MobileBertForSequenceClassification,
)
from mobilebert_jax.models.heads import (
  MobileBertForTokenClassification as MobileBertForTokenClassification,
)
from mobilebert_jax.models.init import abstract_params as abstract_params
from mobilebert_jax.models.init import count_params as count_params
from mobilebert_jax.models.init import init_boxed as init_boxed
from mobilebert_jax.models.init import init_params as init_params
from mobilebert_jax.models.init import init_some as init_some
from mobilebert_jax.models.lm_head import MaskedLMHead as MaskedLMHead
from mobilebert_jax.models.model import MobileBertModel as MobileBertModel
