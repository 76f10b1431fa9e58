"""Statistical alignment: the label distribution is corrected before it is read."""
