"""`python -m chaos`; processes that it starts import their work from `campaign`."""

from chaos.campaign import main

if __name__ == "__main__":
    main()
