"""The forms in which answers are written (numbers, letters, labels, spans, broken JSON), read by the steps beside."""
