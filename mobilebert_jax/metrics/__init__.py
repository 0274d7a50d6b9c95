"""Scores of predictions, one function a benchmark asks for.

classification: accuracy, F1, correlations, squared error.
tagging: precision, recall and F1 of entities.
squad: exact match and F1 of answers, and SQuAD 2.0's thresholds.
spans: the best spans by the scores of their ends.
probabilities: softmax on the host.
ranking: which of two scores is the better one.
"""
