"""What intake decides: `cases` about a case's life, `keys` about who may come in, `customers` about being forgotten."""
