"""`stylesdk optimize`: one picture at a time, without a network to train."""
