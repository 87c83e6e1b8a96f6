"""Measures of how well classes are told apart; the same on every host."""

from mixbt_plugin.evaluation.accuracy import BalancedAccuracy, accuracy_at_k
from mixbt_plugin.evaluation.classification import classification_step
from mixbt_plugin.evaluation.knn import (
    DISTANCES,
    KNNScores,
    LabelledFeatures,
    OnlineKNN,
    knn_scores,
)

__all__ = [
    "DISTANCES",
    "BalancedAccuracy",
    "KNNScores",
    "LabelledFeatures",
    "OnlineKNN",
    "accuracy_at_k",
    "classification_step",
    "knn_scores",
]
