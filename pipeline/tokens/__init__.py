"""Tokens: the tokenizer, the token files of a data set, and the windows that runs read from them."""
