"""How drawings are told from photos: each file that Menagerie draws is signed, wherever it is copied to."""

SIGNATURE = "Menagerie sample drawing"
"""The EXIF tag Software of a drawing."""


def caveat(n_drawings: float, n_photos: float) -> str:
    """Return what is to be said wherever numbers on these photos are shown: nothing, if none of them is a drawing."""
    if not n_drawings:
        return ""
    if n_drawings < n_photos:
        return (
            f"{n_drawings:,.0f} of these {n_photos:,.0f} photos are drawings that Menagerie made itself: the numbers "
            "are better than on photos alone. Take the drawings out of the folder."
        )
    return (
        "These are drawings that Menagerie made itself, not photos: the numbers show that everything works, and say "
        "nothing about photos."
    )
