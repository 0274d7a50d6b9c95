"""The tokenizer class: text to ids and back."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Encoding

from mobilebert_jax.tokenizer import construction
from mobilebert_jax.tokenizer.batch_encoding import BatchEncoding
from mobilebert_jax.tokenizer.decoding import Decoding
from mobilebert_jax.tokenizer.encoding import BackendLock, as_batch, encode_rows
from mobilebert_jax.tokenizer.padding_truncation import (
  Strategy,
  check_side,
  pad_rows,
  resolve,
)
from mobilebert_jax.tokenizer.pretrained import Pretrained
from mobilebert_jax.tokenizer.special_tokens import SpecialTokens

_LOG = logging.getLogger(__name__)


class MobileBertTokenizerFast(Pretrained, Decoding, SpecialTokens):
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
    unk_token: str | AddedToken | None = None,
    sep_token: str | AddedToken | None = None,
    pad_token: str | AddedToken | None = None,
    cls_token: str | AddedToken | None = None,
    mask_token: str | AddedToken | None = None,
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
      do_lower_case: map text to lower case. None: what `tokenizer_file` says;
        for a `vocab.txt` False if many of its tokens have capitals; else True.
      do_basic_tokenize: False applies WordPiece to space-separated words as
        they are (the slow tokenizer of transformers 4; ignored by 5).
      never_split: words of the vocabulary that basic tokenization leaves
        whole where they stand alone (transformers 4; ignored by 5).
      unk_token: stands for words that cannot be spelled. None: what
        `tokenizer_file` says, else '[UNK]'; and so on.
      sep_token: ends a text.
      pad_token: fills a batch.
      cls_token: begins a row.
      mask_token: the gap to fill.
      tokenize_chinese_chars: make each CJK character a word. None: what
        `tokenizer_file` says, else True.
      strip_accents: remove accents. None: what `tokenizer_file` says; for a
        `vocab.txt` False if many of its tokens have accents; else as
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
    source = construction.read_source(vocab_file, tokenizer_file, vocab)
    flags = construction.resolve_flags(
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
    self.model_max_length = construction.check_max_length(model_max_length)
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
    named = construction.resolve_tokens(
      source,
      unk_token=unk_token,
      sep_token=sep_token,
      pad_token=pad_token,
      cls_token=cls_token,
      mask_token=mask_token,
    )
    self._tokenizer = construction.build_backend(
      source, flags, named['unk_token'], added_tokens_decoder, self.never_split
    )
    self._named, self._extra = {}, []
    self._assign_all(named, additional_special_tokens)

  def __call__(
    self,
    text: Any,
    text_pair: Any = None,
    *,
    add_special_tokens: bool = True,
    padding: bool | str = False,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    stride: int = 0,
    is_split_into_words: bool = False,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_tensors: str | None = None,
    return_token_type_ids: bool | None = None,
    return_attention_mask: bool | None = None,
    return_overflowing_tokens: bool = False,
    return_special_tokens_mask: bool = False,
    return_offsets_mapping: bool = False,
    return_length: bool = False,
    split_special_tokens: bool | None = None,
    verbose: bool = True,
  ) -> BatchEncoding:
    """Encodes a text, a pair, or a list of either.

    Args:
      text: a string, a list of strings, or a list of pairs.
      text_pair: the second text, or one for each of the list.
      add_special_tokens: frame rows with [CLS] and [SEP].
      padding: False, True or 'longest' (longest row), or 'max_length'.
      truncation: False, True or 'longest_first', 'only_first', 'only_second'.
        None means False, or True if `max_length` is given without padding.
      max_length: tokens of a row with special tokens; None means
        `model_max_length`.
      stride: tokens that an overflowing part repeats of the one before.
      is_split_into_words: a text is a list of words.
      pad_to_multiple_of: rounds padded lengths up.
      padding_side: overrides the attribute.
      return_tensors: None (lists), 'np' or 'jax' (int32, always a batch).
      return_token_type_ids: None means as `model_input_names` says.
      return_attention_mask: likewise.
      return_overflowing_tokens: return the parts cut off as further rows, and
        `overflow_to_sample_mapping`.
      return_special_tokens_mask: 1 at special tokens and padding.
      return_offsets_mapping: characters [start, end) of every token.
      return_length: the rows' lengths.
      split_special_tokens: overrides the attribute.
      verbose: warn about rows longer than `model_max_length`.

    Returns:
      A mapping with `input_ids`, `token_type_ids`, `attention_mask` and what
      else was asked for. Lists have no batch axis for a single text, unless
      the overflow is returned.

    Raises:
      InputError: a text of another type (with its index), or an argument that
        is wrong or cannot be met.
    """
    rows, is_batch = as_batch(text, text_pair, is_split_into_words)
    strategy = resolve(
      padding=padding,
      truncation=truncation,
      max_length=max_length,
      stride=stride,
      pad_to_multiple_of=pad_to_multiple_of,
      padding_side=padding_side or self.padding_side,
      model_max_length=self.model_max_length,
    )
    encodings = self._encode_rows(
      rows,
      strategy,
      add_special_tokens=add_special_tokens,
      is_split_into_words=is_split_into_words,
      split_special_tokens=(
        self.split_special_tokens
        if split_special_tokens is None
        else split_special_tokens
      ),
    )
    samples = list(range(len(encodings)))
    if return_overflowing_tokens:
      parts = [
        (i, part)
        for i, encoding in enumerate(encodings)
        for part in (encoding, *encoding.overflowing)
      ]
      samples = [i for i, _ in parts]
      encodings = [part for _, part in parts]
    data = self._columns(
      encodings,
      token_type_ids=return_token_type_ids,
      attention_mask=return_attention_mask,
      special_tokens_mask=return_special_tokens_mask,
      offset_mapping=return_offsets_mapping,
      length=return_length,
    )
    if return_overflowing_tokens:
      data['overflow_to_sample_mapping'] = samples
    if verbose and strategy.max_length is None:
      self._warn_if_too_long(encodings)
    keeps_batch = is_batch or return_tensors or return_overflowing_tokens
    if not keeps_batch:
      # transformers leaves the length in its list.
      data = {k: v if k == 'length' else v[0] for k, v in data.items()}
    return BatchEncoding(data, encodings, return_tensors)

  def encode(self, text: Any, text_pair: Any = None, **kwargs: Any) -> Any:
    """Returns the `input_ids` alone; arguments as for a call."""
    return self(text, text_pair, **kwargs)['input_ids']

  def tokenize(
    self,
    text: Any,
    pair: Any = None,
    add_special_tokens: bool = False,
    **kwargs: Any,
  ) -> list[str]:
    """Returns the tokens of one text (or pair) as strings."""
    encoded = self(text, pair, add_special_tokens=add_special_tokens, **kwargs)
    return encoded.tokens()

  def pad(
    self,
    encoded_inputs: Any,
    padding: bool | str = True,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_attention_mask: bool | None = None,
    return_tensors: str | None = None,
    verbose: bool = True,
  ) -> BatchEncoding:
    """Pads rows that are encoded already, as a collate function does.

    Args:
      encoded_inputs: a mapping of names to rows, or a list of mappings with
        one row each; `input_ids`, `token_type_ids`, `attention_mask` and
        `special_tokens_mask` are padded, other names are kept as they are.
      padding: as in a call.
      max_length: as in a call.
      pad_to_multiple_of: as in a call.
      padding_side: as in a call.
      return_attention_mask: make a mask where there is none; None means as
        `model_input_names` says.
      return_tensors: as in a call.
      verbose: accepted for transformers' sake.

    Returns:
      The padded rows.

    Raises:
      InputError: `input_ids` missing, rows that do not belong together, or a
        row longer than `max_length`.
    """
    strategy = resolve(
      padding=padding,
      truncation=False,
      max_length=max_length if padding == 'max_length' else None,
      stride=0,
      pad_to_multiple_of=pad_to_multiple_of,
      padding_side=padding_side or self.padding_side,
      model_max_length=self.model_max_length,
    )
    if return_attention_mask is None:
      return_attention_mask = 'attention_mask' in self.model_input_names
    fillers = {
      'input_ids': self.pad_token_id,
      'token_type_ids': self.pad_token_type_id,
      'attention_mask': 0,
      'special_tokens_mask': 1,
    }
    padded = pad_rows(encoded_inputs, strategy, fillers, return_attention_mask)
    return BatchEncoding(padded, None, return_tensors)

  def _encode_rows(
    self, rows: Sequence[Any], strategy: Strategy, **options: bool
  ) -> list[Encoding]:
    with self._lock:
      return encode_rows(
        self._tokenizer,
        rows,
        strategy,
        truncation_side=self.truncation_side,
        padding={
          'pad_id': self.pad_token_id,
          'pad_token': self.pad_token,
          'pad_type_id': self.pad_token_type_id,
        },
        **options,
      )

  def _columns(
    self, encodings: Sequence[Encoding], **wanted: bool | None
  ) -> dict[str, list]:
    """Returns the named lists, in transformers' order."""
    attributes = {
      'token_type_ids': 'type_ids',
      'attention_mask': 'attention_mask',
      'special_tokens_mask': 'special_tokens_mask',
      'offset_mapping': 'offsets',
    }
    data: dict[str, list] = {'input_ids': [e.ids for e in encodings]}
    for name, attribute in attributes.items():
      want = wanted[name]
      if want is None:
        want = name in self.model_input_names
      if want:
        data[name] = [getattr(e, attribute) for e in encodings]
    if wanted['length']:
      data['length'] = [len(e.ids) for e in encodings]
    return data

  def _warn_if_too_long(self, encodings: Sequence[Encoding]) -> None:
    longest = max((len(e.ids) for e in encodings), default=0)
    if longest > self.model_max_length:
      _LOG.warning(
        'a row has %d tokens, but the model takes %d; use truncation=True',
        longest,
        self.model_max_length,
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
    """Returns token to id, with the tokens added later."""
    return self._tokenizer.get_vocab(with_added_tokens=True)

  @property
  def vocab(self) -> dict[str, int]:
    """`get_vocab` as an attribute."""
    return self.get_vocab()


MobileBertTokenizer = MobileBertTokenizerFast
