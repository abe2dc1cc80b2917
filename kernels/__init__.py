"""Tensor operations: tensors in, tensors out, with a naive form beside every fast one."""
