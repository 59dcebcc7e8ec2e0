"""Factor files and the models they are for: the part that the plug-in and the server import."""
