"""Arrays in, matplotlib figures out, all in one house style; nothing is shown, no state of pyplot is touched.

`figure.savefig(path)` or `png(figure)` makes a picture of report width. Titles say what is seen and of how
many photos.
"""

from ml.figures.choice import candidates, cost_of_accuracy, paired_comparison
from ml.figures.curves import confusion_matrix, learning_curves, reliability_diagram, roc_curve
from ml.figures.inside import Explained, feature_maps, filters, grad_cam
from ml.figures.maps import Map, tsne_maps
from ml.figures.matrix import cross_animals
from ml.figures.search import regularisations, search
from ml.figures.sheets import contact_sheet, mistakes
from ml.figures.style import png

__all__ = [
    "Explained",
    "Map",
    "candidates",
    "confusion_matrix",
    "contact_sheet",
    "cost_of_accuracy",
    "cross_animals",
    "feature_maps",
    "filters",
    "grad_cam",
    "learning_curves",
    "mistakes",
    "paired_comparison",
    "png",
    "regularisations",
    "reliability_diagram",
    "roc_curve",
    "search",
    "tsne_maps",
]
