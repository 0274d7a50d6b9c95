"""Special tokens around ids: the frame `[CLS] A [SEP] B [SEP]`."""

from collections.abc import Sequence

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.special_tokens import SpecialTokens


class Framing(SpecialTokens):
  """The part of a tokenizer that frames ids without tokenizing."""

  model_max_length: int

  def num_special_tokens_to_add(self, pair: bool = False) -> int:
    """Special tokens of a row: 2, or 3 for a pair."""
    return self._tokenizer.num_special_tokens_to_add(pair)

  @property
  def max_len_single_sentence(self) -> int:
    """Tokens of a text that fit beside the special tokens."""
    return self.model_max_length - self.num_special_tokens_to_add(False)

  @property
  def max_len_sentences_pair(self) -> int:
    """Tokens of a pair that fit beside the special tokens."""
    return self.model_max_length - self.num_special_tokens_to_add(True)

  def build_inputs_with_special_tokens(
    self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
  ) -> list[int]:
    """`[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` of ids."""
    first = [self.cls_token_id, *token_ids_0, self.sep_token_id]
    if token_ids_1 is None:
      return first
    return [*first, *token_ids_1, self.sep_token_id]

  def create_token_type_ids_from_sequences(
    self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
  ) -> list[int]:
    """0 for `[CLS] A [SEP]`, 1 for `B [SEP]`."""
    first = [0] * (len(token_ids_0) + 2)
    if token_ids_1 is None:
      return first
    return first + [1] * (len(token_ids_1) + 1)

  def get_special_tokens_mask(
    self,
    token_ids_0: Sequence[int],
    token_ids_1: Sequence[int] | None = None,
    already_has_special_tokens: bool = False,
  ) -> list[int]:
    """1 at special tokens, of framed ids or of ids to be framed.

    Raises:
      InputError: a second text beside ids that are framed already.
    """
    if not already_has_special_tokens:
      mask = [1, *(0 for _ in token_ids_0), 1]
      if token_ids_1 is None:
        return mask
      return [*mask, *(0 for _ in token_ids_1), 1]
    if token_ids_1 is not None:
      raise InputError(
        'already_has_special_tokens=True takes one row of ids, not two'
      )
    special = set(self.all_special_ids)
    return [int(int(index) in special) for index in token_ids_0]
