"""The tokenizer class: text to ids and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken

from mobilebert_jax.tokenizer import construction
from mobilebert_jax.tokenizer.calling import Calling
from mobilebert_jax.tokenizer.decoding import Decoding
from mobilebert_jax.tokenizer.encoding import BackendLock
from mobilebert_jax.tokenizer.framing import Framing
from mobilebert_jax.tokenizer.pretrained import Pretrained
from mobilebert_jax.tokenizer.strategies import check_side


class MobileBertTokenizerFast(Pretrained, Calling, Framing, Decoding):
  """BERT's WordPiece tokenizer on the `tokenizers` library.

  The call, its arguments and its results are those of transformers'
  `MobileBertTokenizer` and `MobileBertTokenizerFast` (which are its BERT
  tokenizers), with two differences: arrays are int32, and wrong input raises
  `InputError`. `MobileBertTokenizer` is another name of this class.

  Attributes:
    model_max_length: tokens that the model takes, 10**30 where unknown.
    padding_side, truncation_side: 'right' or 'left'.
    model_input_names: which names a call returns when not told otherwise.
  """

  def __init__(
    self,
    vocab_file: Any = None,
    *,
    tokenizer_file: Any = None,
    vocab: Any = None,
    do_lower_case: bool | None = None,
    do_basic_tokenize: bool | None = None,
    never_split: Iterable[str] | None = None,
    unk_token: str | AddedToken = '[UNK]',
    sep_token: str | AddedToken = '[SEP]',
    pad_token: str | AddedToken = '[PAD]',
    cls_token: str | AddedToken = '[CLS]',
    mask_token: str | AddedToken = '[MASK]',
    tokenize_chinese_chars: bool | None = None,
    strip_accents: bool | None = None,
    clean_up_tokenization_spaces: bool = False,
    split_special_tokens: bool = False,
    model_max_length: int | None = None,
    padding_side: str | None = None,
    truncation_side: str | None = None,
    model_input_names: Sequence[str] = construction.INPUT_NAMES,
    additional_special_tokens: Sequence[str | AddedToken] = (),
    added_tokens_decoder: Mapping[Any, Any] | None = None,
  ):
    """Makes a tokenizer of a vocabulary.

    Args:
      vocab_file: path of a `vocab.txt`, or the vocabulary itself: a dict from
        token to id or a list of tokens.
      tokenizer_file: path of a `tokenizer.json`; one of the two is needed.
      vocab: another name of `vocab_file`, as in transformers 5.
      do_lower_case: map text to lower case. None: what `tokenizer_file` says,
        else True.
      do_basic_tokenize: False applies WordPiece to space-separated words as
        they are (the slow tokenizer of transformers 4; ignored by 5).
      never_split: words of the vocabulary that basic tokenization leaves
        whole where they stand alone (transformers 4; ignored by 5).
      unk_token: stands for words that cannot be spelled.
      sep_token: ends a text.
      pad_token: fills a batch.
      cls_token: begins a row.
      mask_token: the gap to fill.
      tokenize_chinese_chars: make each CJK character a word. None: what
        `tokenizer_file` says, else True.
      strip_accents: remove accents. None: what `tokenizer_file` says, else as
        `do_lower_case`.
      clean_up_tokenization_spaces: join English contractions in `decode`.
      split_special_tokens: treat special tokens in text as ordinary text.
      model_max_length: tokens that the model takes.
      padding_side: 'right' (default) or 'left'.
      truncation_side: 'right' (default) or 'left'.
      model_input_names: names that a call returns.
      additional_special_tokens: further special tokens; appended to the
        vocabulary where they are not in it.
      added_tokens_decoder: id to token, for tokens behind the vocabulary.

    Raises:
      InputError: no vocabulary, a file that is missing or corrupt, a
        vocabulary without a special token, or a wrong argument.
    """
    source = construction.source(vocab_file, tokenizer_file, vocab)
    flags = construction.flags(
      source,
      do_lower_case=do_lower_case,
      do_basic_tokenize=do_basic_tokenize,
      tokenize_chinese_chars=tokenize_chinese_chars,
      strip_accents=strip_accents,
    )
    self.do_lower_case: bool = flags['do_lower_case']
    self.do_basic_tokenize: bool = flags['do_basic_tokenize']
    self.tokenize_chinese_chars: bool = flags['tokenize_chinese_chars']
    self.strip_accents: bool | None = flags['strip_accents']
    self.never_split = None if never_split is None else list(never_split)
    self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
    self.split_special_tokens = split_special_tokens
    self.model_max_length = construction.checked_max_length(model_max_length)
    self.padding_side = padding_side or source.options.get(
      'padding_side', 'right'
    )
    self.truncation_side = truncation_side or source.options.get(
      'truncation_side', 'right'
    )
    check_side('padding_side', self.padding_side)
    check_side('truncation_side', self.truncation_side)
    self.model_input_names = list(model_input_names)
    self._lock = BackendLock()
    self._tokenizer = construction.backend(
      source, flags, unk_token, added_tokens_decoder, self.never_split
    )
    self._named, self._extra = {}, []
    construction.assign_special_tokens(
      self,
      {
        'unk_token': unk_token,
        'sep_token': sep_token,
        'pad_token': pad_token,
        'cls_token': cls_token,
        'mask_token': mask_token,
      },
      additional_special_tokens,
    )

  @property
  def vocab_size(self) -> int:
    """Tokens of the base vocabulary, without those added later."""
    return self._tokenizer.get_vocab_size(with_added_tokens=False)

  def __len__(self) -> int:
    return self._tokenizer.get_vocab_size(with_added_tokens=True)

  def __bool__(self) -> bool:
    return True

  def __repr__(self) -> str:
    return (
      f'{type(self).__name__}(vocab_size={self.vocab_size}, '
      f'do_lower_case={self.do_lower_case}, '
      f'model_max_length={self.model_max_length}, '
      f'special_tokens={self.special_tokens_map})'
    )

  @property
  def is_fast(self) -> bool:
    """True: words and offsets are always known."""
    return True

  @property
  def backend_tokenizer(self) -> tokenizers.Tokenizer:
    """The `tokenizers` pipeline itself."""
    return self._tokenizer

  def get_vocab(self) -> dict[str, int]:
    """Token to id, with the tokens added later."""
    return self._tokenizer.get_vocab(with_added_tokens=True)

  @property
  def vocab(self) -> dict[str, int]:
    """`get_vocab` as an attribute."""
    return self.get_vocab()


MobileBertTokenizer = MobileBertTokenizerFast
