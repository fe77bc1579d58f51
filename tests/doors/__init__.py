"""What the tests of all doors share: the town they are tried in, who may enter where, bad input, and the fuzzer."""
