"""Tensors in, tensors out. Imports torch, and Triton where asked for; a naive form beside every fast one."""
