"""Copy-paste synthesis: composed photographs with exact amodal truth."""
