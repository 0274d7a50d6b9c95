"""What `config.options` may say for questions about a text."""

import dataclasses

from mobilebert_jax.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanOptions:
  """How texts are cut and answers searched.

  The names and defaults are those of google-research's run_squad.

  Attributes:
    doc_stride: how many tokens of the text a window begins after the window
      before it.
    max_query_length: tokens of a question; the rest is cut off.
    max_answer_length: tokens of the longest answer that is given.
    n_best: answers to each question in nbest_predictions.json.
  """

  doc_stride: int = fields.setting(128, at_least=1)
  max_query_length: int = fields.setting(64, at_least=1)
  max_answer_length: int = fields.setting(30, at_least=1)
  n_best: int = fields.setting(20, at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NullSpanOptions(SpanOptions):
  """The same, where a text may not answer a question.

  Attributes:
    null_score_threshold: no answer is given where its score is more than this
      above that of the best answer; None: the threshold with the best F1 on
      the split that is evaluated, 0 where its answers are not known.
  """

  null_score_threshold: float | None = None
