"""Hyper-parameter search: keras-tuner's oracles propose configurations, cross-validation judges them.

Nested cross-validation (Varma & Simon 2006) has one search an outer fold, which never sees that fold: its score of a
configuration is the mean over the other folds, each judged by a fit without it and without the outer fold. One more
search, whose outer fold is `None`, sees every fold and chooses what is trained in the end. A fit without the folds
{o, i} serves the searches of o and of i, and as searches of the same seed draw the same configurations, most fits are
asked for twice; `Fits` keeps them, for searches that run one after another as for those that run side by side.

A search that was killed is simply run again. Its finished fits lie on disk, and the oracles are functions of seed and
scores, so the finished trials come by again at once and in the same order. Nothing of keras-tuner's own state is
needed, which of some oracles cannot be taken up again.
"""

from ml.tuning.fits import Configuration, Fit, Fits
from ml.tuning.oracles import STRATEGIES
from ml.tuning.search import Plan, Trial, inner_folds, ranked, search

__all__ = ["STRATEGIES", "Configuration", "Fit", "Fits", "Plan", "Trial", "inner_folds", "ranked", "search"]
