"""The verbs around training: compose the settings, check them, start, export."""
