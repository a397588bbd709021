"""The harness: runs the recipes on both frameworks, and measures, tabulates and draws them."""
