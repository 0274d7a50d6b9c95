"""Makes examples for pre-training out of plain text.

  python -m mobilebert_jax.pretraining_data --input PATH [PATH ...]
      --output=DIR --tokenizer=VOCAB [--max_length=128] [flags below]

  --input       text files or directories of them: *.txt, one document in each
                (or see --documents), and *.jsonl, one on each line; also .gz,
                also on gs://
  --output      the data set, one file for each block of text. The same command
                continues what was stopped; other settings are refused
  --tokenizer   a vocab.txt, a directory, or a name on the Hugging Face hub
  --max_length  positions of an example, special tokens included (128)
  --masking     dynamic: masked anew in each epoch of training (default);
                static: masked here, as Google's script does
  --[no-]next_sentence  pairs for next-sentence prediction (default); without:
                whole sentences of one document, as many as fit
  --documents   what a document is in *.txt: file (default), paragraph (between
                blank lines, BERT's own format), or line
  --text_column the name of the text in *.jsonl (text)
  --sentences   what ends a sentence: marks (default), or lines
  --short_probability  share of the examples of a random length (0.1)
  --duplicates  how often the text is gone through (10 if static, else 1)
  --block_size  characters in a block (16,000,000)
  --seed        of everything random (12345)
  with --masking=static also:
  --mask_probability              share of the tokens to predict (0.15)
  --[no-]whole_word               mask all pieces of a word together (no)
  --max_predictions_per_sequence  tokens to predict in an example (20)

  --shard=i/n   write the blocks i, i + n, ... alone, i from 0: one command on
                each of n machines with one --output, or with copies that are
                put together; then the same files as from one machine
  --workers=N   processes (1); the same files for any number

Exit status: 0; 1 if the disk is full or a worker was killed; 2 if the input was
wrong; 75 if SIGTERM, 130 if Ctrl-C stopped it: the same command continues.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax import pretraining_data
from mobilebert_jax.pretraining_data import flags
from mobilebert_jax.runtime import cluster, exit_status

_COMMAND = 'python -m mobilebert_jax.pretraining_data'


def main(argv: Sequence[str]):
  """Parses the command line, writes, and says what has been written."""
  cluster.refuse_several(_COMMAND)
  given = flags.parse(_COMMAND, argv[1:])
  summary = pretraining_data.write(
    given.options, given.inputs, given.output, given.tokenizer, given.shard,
    given.workers,
  )  # fmt: skip
  print(closing_line(given.output, summary))


def closing_line(output: str, summary: dict | None) -> str:
  """What is in a data set, in one sentence."""
  if summary is None:
    return f'{output}: these blocks are written; those of other shards are not.'
  counts = summary['counts']
  return (
    f'{output}: {counts["examples"]:,} examples in {summary["blocks"]:,} '
    f'files, of {counts["tokens"]:,} tokens in {summary["documents"]:,} '
    'documents.'
  )


if __name__ == '__main__':
  sys.exit(exit_status.run(main, __doc__))
