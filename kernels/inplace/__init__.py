"""The in-place memory of `mlp_fast`: outer products written chunk by chunk."""
