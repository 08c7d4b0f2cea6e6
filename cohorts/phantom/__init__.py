"""A simulator of echo studies: public, seeded, and therefore free of privacy cost."""
