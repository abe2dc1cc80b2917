"""LaCT: large chunks that write into a SwiGLU network."""
