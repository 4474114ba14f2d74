"""The tests of the package, with runs that the program makes: python -m unittest discover -s python/tests -t python"""
