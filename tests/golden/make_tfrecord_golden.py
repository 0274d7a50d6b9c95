"""Makes a TFRecord file with TensorFlow, in an environment of its own.

  pip install 'tensorflow==2.21.0'
  python tests/golden/make_tfrecord_golden.py

It writes tensorflow.tfrecord, random examples with the features of BERT's
create_pretraining_data.py, and tensorflow.npz, the numbers in them.
"""

import pathlib
import sys

_HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

import numpy as np  # noqa: E402

from tests.support import tfrecords  # noqa: E402


def main():
  rows = tfrecords.bert_rows(20)
  tfrecords.write_with_tensorflow(tfrecords.GOLDEN, rows)
  np.savez_compressed(
    tfrecords.GOLDEN_ROWS,
    **{
      name: values if values.dtype == np.float32 else values.astype(np.uint16)
      for name, values in rows.items()
    },
  )


if __name__ == '__main__':
  main()
