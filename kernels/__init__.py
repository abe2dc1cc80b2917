"""Tensors in, tensors out. Imports torch, and Triton where asked for; nothing of ours. A naive form beside every fast one."""
