"""The `tokenizers` pipeline of BERT: normalize, split, WordPiece."""

from collections.abc import Mapping

import tokenizers
from tokenizers import decoders, models, normalizers
from tokenizers import pre_tokenizers as splitters


def build_backend(
  vocab: Mapping[str, int],
  *,
  unk_token: str,
  do_lower_case: bool,
  tokenize_chinese_chars: bool,
  strip_accents: bool | None,
  do_basic_tokenize: bool,
  max_input_chars_per_word: int,
) -> tokenizers.Tokenizer:
  """Builds the tokenizer without added tokens and template.

  The steps are those of BERT's basic and WordPiece tokenizers: control
  characters go, CJK characters become words; lower case and accents off where
  wanted; a split at spaces and punctuation; greedy longest match.

  Args:
    vocab: token to id.
    unk_token: stands for a word that the vocabulary cannot spell.
    do_lower_case: map to lower case.
    tokenize_chinese_chars: make every CJK character a word of its own.
    strip_accents: remove accents; None means as `do_lower_case`.
    do_basic_tokenize: False leaves text as it is and splits at spaces only.
    max_input_chars_per_word: longer words become `unk_token`.

  Returns:
    The pipeline.
  """
  backend = tokenizers.Tokenizer(
    models.WordPiece(
      dict(vocab),
      unk_token=unk_token,
      max_input_chars_per_word=max_input_chars_per_word,
    )
  )
  if do_basic_tokenize:
    backend.normalizer = normalizers.BertNormalizer(
      clean_text=True,
      handle_chinese_chars=tokenize_chinese_chars,
      strip_accents=strip_accents,
      lowercase=do_lower_case,
    )
    backend.pre_tokenizer = splitters.BertPreTokenizer()
  else:
    # An empty sequence, since transformers 4 reads the normalizer's state.
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = splitters.WhitespaceSplit()
  backend.decoder = decoders.WordPiece(prefix='##')
  return backend
