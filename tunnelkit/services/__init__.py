"""What twistd starts: command line and configuration file in, a Twisted service out.

Glossary
    setting     one thing that can be configured: an option and a key of the configuration file
    given       the text of a setting, and where it stands, for error messages
    config      the attrs object of a role, made from its settings and valid as a whole
    tap         the module behind one twistd subcommand: ``Options`` and ``makeService``
"""
