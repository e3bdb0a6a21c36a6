"""Graphs and tables as text that others show: SVG, HTML, Mermaid, DOT, and box characters. Pure: values in, text out."""
