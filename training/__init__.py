"""What both training scripts share: the loop, losses, recipes, checkpoints and curves."""
