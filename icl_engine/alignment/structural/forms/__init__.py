"""The forms in which answers are written (numbers, letters, labels, spans, broken JSON): what the steps beside read by."""
