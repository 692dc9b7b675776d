"""Around the system: Serve configs, the local zoo of candidates, services, locks and the demo."""
