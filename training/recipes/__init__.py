"""Recipes: which networks train together, on which losses. One small class each; the loop is in training/loop.py."""
