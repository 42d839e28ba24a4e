"""What a run leaves behind: its folder, results.jsonl, where each number comes from."""
