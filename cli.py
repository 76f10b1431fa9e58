"""`python cli.py run …` from a checkout equals `icl run …`."""

from icl_engine.console.main import main

if __name__ == "__main__":
    main()
