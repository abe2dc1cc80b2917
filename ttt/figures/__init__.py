"""Pictures of results, drawn by matplotlib without a display: data in, a figure out."""
