"""What the server hears of a task while it is at work here and at its end, and what it says of it meanwhile."""
