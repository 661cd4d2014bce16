"""Menagerie: image classifiers retrained on a schedule."""
