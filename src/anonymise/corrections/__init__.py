"""What people and other systems say must be hidden, or need not be: kept, applied in every run, undone.

`store` keeps corrections and says who decided what; `source` applies them to what any source of detections finds;
`shapes` turns their shapes into objects.
"""
