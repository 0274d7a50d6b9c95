"""Tagging: a tag for each word of a sentence.

- `task`: loss, scores, prediction files of any tagging task
- `iob`: the schemes IOB1 and IOB2, a task's labels, sentences checked by them
- `windows`: from sentences to rows of tokens, long sentences in windows
- `benchmarks`: CoNLL-2003 and WNUT-17
"""
