"""Second-pass decoders: phrases, beam search, language models. Greedy decoding is inside the model file."""
