"""A Hugging Face model under any factor set: loading it, rotating it and measuring its loss."""
