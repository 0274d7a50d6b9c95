"""Self-attention.

In the order in which to read:

  self_attention: the module: projections, attention, output, norm.
  masks: which keys a query sees.
  dropout: which probabilities are kept, by a hash of where they are.
  xla: attention as plain operations.
  kernel: a TPU kernel that keeps scores and probabilities to itself; fused: its
    call and gradient; meshed: on every device of a mesh.
  cudnn: a GPU's kernel.
  choice: which of them computes.
"""

from mobilebert_jax.models.attention.masks import SEES_ALL as SEES_ALL
from mobilebert_jax.models.attention.masks import Mask as Mask
from mobilebert_jax.models.attention.masks import make_mask as make_mask
from mobilebert_jax.models.attention.self_attention import (
  BlockInputs as BlockInputs,
)
from mobilebert_jax.models.attention.self_attention import (
  SelfAttention as SelfAttention,
)
