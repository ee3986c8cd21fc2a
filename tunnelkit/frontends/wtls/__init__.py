"""The operator's proxy of the WTLS-style tunnel: `--wtls` at any end, and the role by itself (W9).

operator     its port: ordinary service, the standard error, tunnel mode
paths        the ways to domain proxies, one for each device in tunnel mode
learning     asking mirrors
answers      what failed fetches are to a device
domain       the port of a domain proxy
keys         certificates, read again when they change
settings     what options say
front_end    the option
"""

__all__: list[str] = []
