"""What scores tell beyond their mean; each analysis has a file of its own."""
