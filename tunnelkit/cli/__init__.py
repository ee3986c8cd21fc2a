"""The companion command ``tunnelkit``: one module ``cmd_NAME`` per subcommand.

Glossary
    register    adds a subcommand's parser; called before anything is parsed
    run         does what the command line says and returns the exit status
"""
