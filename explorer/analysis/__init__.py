"""What a configuration is: its layers, receptive fields, memory, cost, and how it differs from others."""
