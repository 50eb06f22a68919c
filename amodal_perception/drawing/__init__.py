"""Pictures: overlays, charts, graphs, films."""
