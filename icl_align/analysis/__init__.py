"""What recorded scores say: tables as papers print them, robustness, what checking while answering gains."""
