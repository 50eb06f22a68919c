"""The subcommands of ``amodal``."""
