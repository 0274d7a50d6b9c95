"""Readers of files: each yields examples and names file and line of an error.

- `lines`: lines of UTF-8 and JSON Lines, gzipped, remote; all others use it
- `tables`: named columns in TSV, CSV and JSON Lines
- `tfds`: data sets that TFDS has prepared
- `conll`: tagged words in columns
- `choice_files`: SWAG, RACE, CommonsenseQA
- `squad`: SQuAD's JSON
- `documents`: running text, and its held-out part
- `sentences`: where sentences end in running text
"""
