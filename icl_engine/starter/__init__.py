"""A first task, for `icl init`: guessed from a table (`starting`), or a copy of a shipped one (`copying`).

`column` says what values look like, `guess` what is answer and what is input, `split` which rows are train and test,
`wording` and `text` write the task file, `staging` tries it out and moves it into place.
"""
