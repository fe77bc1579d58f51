"""Takes in what customers bring, keeps each case's life cycle, and holds what is personal about them."""
