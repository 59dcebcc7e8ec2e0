"""What our pieces cost: `longrope serve` against vLLM's bare application, as ratios in one run."""
