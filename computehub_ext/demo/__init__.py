"""The demo: JupyterLab on a tour, with two people, in a folder of its own."""
