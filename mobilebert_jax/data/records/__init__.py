"""Pre-training examples on disk, read batch by batch.

- `record_files`: ArrayRecord and TFRecord, each record found by its number
- `tf_example`: the bytes of a record to arrays and back
- `prepared`: the files of a prepared data set
- `records`: several files as one sequence of records; what is held out
- `stored_features`: batches of records, checked and masked
"""
