"""Second implementations and dishonest parties, for tests to talk to."""
