"""Whether a challenger is better, with intervals, before it may serve."""
