"""Arrays in, matplotlib figures out, all in one house style; nothing is shown, no state of pyplot is touched.

`figure.savefig(path)` or `png(figure)` makes a picture of report width. Titles say what is seen and of how
many photos.
"""

from ml.figures.choice import candidates, paired_comparison
from ml.figures.curves import confusion_matrix, learning_curves, reliability_diagram, roc_curve
from ml.figures.inside import Explained, feature_maps, filters, grad_cam
from ml.figures.maps import Map, tsne_maps
from ml.figures.sheets import contact_sheet, mistakes
from ml.figures.style import png

__all__ = [
    "Explained",
    "Map",
    "candidates",
    "confusion_matrix",
    "contact_sheet",
    "feature_maps",
    "filters",
    "grad_cam",
    "learning_curves",
    "mistakes",
    "paired_comparison",
    "png",
    "reliability_diagram",
    "roc_curve",
    "tsne_maps",
]
