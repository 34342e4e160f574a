"""The search: samplers propose points, the sweep measures them, confirm proves the winner."""
