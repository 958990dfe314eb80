"""Vision-language models of transformers (`AutoModelForImageTextToText`), with interleaved demonstrations."""
