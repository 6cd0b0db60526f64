"""What `import prunekit` offers: one call for what a command does, for networks and batches of your own."""
