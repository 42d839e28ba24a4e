"""Kolesnikov, Zhai, Beyer: Revisiting Self-Supervised Visual Representation Learning (arXiv:1901.09005)."""
