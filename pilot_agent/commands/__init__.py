"""What the larger commands do: loaded only when one of them runs."""
