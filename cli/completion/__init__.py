"""What the tab key offers behind each command, in bash, zsh and fish."""
