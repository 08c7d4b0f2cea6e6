"""One hospital: the Flower ClientApp, its policy, its ledger."""
