"""Factor files and the models that they are for: all that the plug-in and the server import."""
