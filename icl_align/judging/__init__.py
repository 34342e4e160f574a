"""What one does with a judge besides searching: compare answers, put scores on a scale, draft questions."""
