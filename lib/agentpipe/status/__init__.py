"""What agent-status shows, and the terminal that it draws on."""
