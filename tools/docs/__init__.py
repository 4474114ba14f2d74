"""What tools/docs_commands.py is made of: it runs the commands of the documentation."""
