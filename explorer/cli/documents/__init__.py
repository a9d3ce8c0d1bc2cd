"""What the commands print: one file a command, each as text, as tables for a terminal, and as JSON."""
