"""The options of the ends, and what becomes of them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.peers.corporate import CLIENT, certify, credentials
from tests.services.roles import options_class
from tests.services.test_options import Refusal
from tunnelkit.net.tls.context import KeyUse
from tunnelkit.policy.identity import Identity, identity_pem, load_identity
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.roles.lstp_end import LstpEndConfig
from tunnelkit.services.options import RoleOptions


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of keys with the identities ``a`` and ``b``."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    directory = KeyDirectory(path)
    directory.create()
    for name in ("a", "b"):
        directory.issue(name)
    directory.revoke("b")
    return path


@pytest.fixture
def needed(keys: Path) -> list[str]:
    """What every end needs."""
    return [
        *("--middle", "middle.example:7000", "--tunnel", "t"),
        *("--identity", str(keys / "a.pem"), "--peer", "b"),
    ]


PORT = ("--socks", "0")
"""What makes a client end useful."""


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


def parsed(options: RoleOptions, words: list[str]) -> LstpEndConfig:
    options.parseOptions(words)
    assert isinstance(options.config, LstpEndConfig)
    return options.config


def test_a_client_end_needs_only_four_options_and_a_port(needed: list[str]) -> None:
    config = parsed(options_class("lstp-client-end")(), [*needed, *PORT])
    assert config.role == "client-end"
    assert config.middle == ("middle.example", 7000)
    assert config.tunnel == "t"
    assert config.identity.name == "a"
    assert config.peers == {"b"}
    assert [one.front_end.name for one in config.front_ends] == ["socks"]
    assert (config.via, config.rules, config.sources) == ((), (), ())
    assert (config.connections, config.max_channels) == (1, 1024)
    assert config.compress is False
    assert (config.maps, config.system_resolver) == ((), False)
    assert config.half_closed_limit == 3600


def test_everything_an_end_can_be_told(needed: list[str], keys: Path, tmp_path: Path) -> None:
    users, password, token = (tmp_path / name for name in ("users", "password", "token"))
    for file, text in ((users, "me:secret\n"), (password, "hush\n"), (token, "in\n")):
        file.write_text(text)
        file.chmod(0o600)
    config = parsed(
        options_class("lstp-server-end")(),
        [
            *needed,
            *("--peer", "c", "--via", "socks5://me@one:1", "--via", "http://two:2"),
            *("--via-password-file", str(password), "--admission-token-file", str(token)),
            *("--socks", "1080@b", "--socks", "[::1]:1081@b", "--socks-auth-file", str(users)),
            *("--forward", "8080=tcp:web:80@b", "--forward", "127.0.0.2:8000-8001=web:80-81@c"),
            *("--x11", "10@b", "--x11", "11=:1@c"),
            *("--allow", "tcp:127.0.0.1:9000", "--allow", "tcp:*.example:80,443"),
            *("--from", "127.0.0.0/8", "--crl", str(keys / "revoked.crl"), "--both"),
            *("--map", "db.x:5432=tcp:127.0.0.1:5432", "--resolver", "system"),
            *("--connections", "3", "--max-channels", "20", "--compress"),
        ],
    )
    assert config.role == "both"
    assert config.peers == {"b", "c"}
    assert isinstance(config.via, tuple)
    assert [str(hop) for hop in config.via] == ["socks5://one:1", "http://two:2"]
    assert config.via[0].password == "hush"
    assert config.admission_token == "in"
    names = [one.front_end.name for one in config.front_ends]
    assert names == ["forward", "forward", "socks", "socks", "x11", "x11"]
    assert config.front_ends[5].config.destination == "x11::1"
    assert config.front_ends[3].config.users == {"me": "secret"}
    assert len(config.front_ends[1].config) == 2
    assert [sorted(one.peers) for one in config.front_ends] == [[name] for name in "bcbbbc"]
    assert len(config.rules) == 2
    assert [rule.text for rule in config.maps] == ["db.x:5432=tcp:127.0.0.1:5432"]
    assert config.system_resolver
    assert config.sources == (ip_network("127.0.0.0/8"),)
    assert config.crl_file == str(keys / "revoked.crl")
    assert (config.connections, config.max_channels) == (3, 20)
    assert config.compress is True
    for secret in ("hush", "secret"):
        assert secret not in repr(config)


@pytest.mark.parametrize(("via", "expected"), [("none", ()), ("auto", None)])
def test_ways_out_that_have_a_name(
    needed: list[str], via: str, expected: tuple[object, ...] | None
) -> None:
    config = parsed(options_class("lstp-client-end")(), [*needed, *PORT, "--via", via])
    assert config.via == expected


@pytest.mark.parametrize("missing", ["middle", "tunnel", "identity", "peer"])
def test_what_is_missing_is_named(refusal: Refusal, needed: list[str], missing: str) -> None:
    at = needed.index(f"--{missing}")
    said = refusal("lstp-client-end", *needed[:at], *needed[at + 2 :])
    assert said.startswith(f"--{missing} is missing: expected ")


USE = "--allow PATTERN of what the other end may reach from here"


def test_an_end_that_would_be_of_no_use_does_not_start(refusal: Refusal, needed: list[str]) -> None:
    said = refusal("lstp-client-end", *needed)
    assert said.startswith("this end would be of no use: expected a port here")
    for front_end in ("--ask", "--dns", "--forward", "--http-proxy", "--reverse", "--socks"):
        assert front_end in said
    assert said.endswith(USE)
    for useful in (PORT, ("--allow", "tcp:10.0.0.1:1"), ("--publish", "web=10.0.0.1:80")):
        parsed(options_class("lstp-client-end")(), [*needed, *useful])


def test_an_end_that_runs_may_lose_its_last_use(needed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text('socks = "0"\n')
    options = options_class("lstp-client-end")()
    options.parseOptions([*needed, "--config", str(file)])
    file.write_text("")
    options.starting = False
    assert options.make_config(options.read_settings()).front_ends == ()


@pytest.mark.parametrize(
    "words", [["--publish", "web=10.0.0.1:80"], ["--connections", "2"], ["--compress"]]
)
def test_what_only_lstp_has_is_refused_where_lstp_is_not_spoken(
    refusal: Refusal, needed: list[str], words: list[str]
) -> None:
    said = refusal("lstp-client-end", *needed, *PORT, *words, "--protocol", "usher")
    assert said.startswith(words[0])
    assert said.endswith("none of the protocols has this: expected --protocol lstp too")
    both = ("--protocol", "usher", "--protocol", "lstp")
    parsed(options_class("lstp-client-end")(), [*needed, *PORT, *words, *both])


def test_a_protocol_that_nobody_has_is_named(refusal: Refusal, needed: list[str]) -> None:
    said = refusal("lstp-client-end", *needed, *PORT, "--protocol", "ushr")
    assert said == (
        "--protocol: 'ushr' is not installed (did you mean 'usher'?): expected lstp, usher"
    )


def test_an_end_that_serves_needs_a_rule(refusal: Refusal, needed: list[str]) -> None:
    assert refusal("lstp-server-end", *needed).startswith("--allow is missing: expected ")
    assert refusal("lstp-client-end", *needed, "--both").startswith("--allow is missing: ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("middle", "middle.example"),
        ("middle", "middle.example:0"),
        ("tunnel", ""),
        ("tunnel", "two\nlines"),
        ("identity", "/nowhere.pem"),
        ("peer", ""),
        ("peer", "a b"),
        ("peer", "a"),
        ("via", "ftp://proxy:21"),
        ("via", "proxy:1080"),
        ("via-password-file", "/nowhere"),
        ("admission-token-file", "/nowhere"),
        ("socks", "nobody.example:1080"),
        ("socks", "70000"),
        ("forward", "8080"),
        ("forward", "8080=web"),
        ("forward", "8000-8002=tcp:web:80-81"),
        ("x11", "desk"),
        ("x11", "60000"),
        ("x11", "10=desk"),
        ("allow", "web"),
        ("allow", "tcp:web"),
        ("from", "everywhere"),
        ("from", "10.0.0.0/33"),
        ("crl", "/nowhere.crl"),
        ("connections", "0"),
        ("connections", "17"),
        ("max-channels", "0"),
        ("max-channels", "1e3"),
    ],
)
def test_values_that_cannot_be(
    refusal: Refusal, needed: list[str], tmp_path: Path, option: str, value: str
) -> None:
    words = [*needed, "--allow", "tcp:127.0.0.1:1"]
    if f"--{option}" in needed:
        at = words.index(f"--{option}")
        del words[at : at + 2]
    said = refusal("lstp-server-end", *words, f"--{option}", value)
    assert said.startswith(f"--{option}")
    if option != "allow":
        file = tmp_path / "end.toml"
        file.write_text(f"# \n{option} = {_toml(value)}\n")
        said = refusal("lstp-server-end", *words, "--config", str(file))
        assert said.startswith(f"{file}:2: key {option}")


def _toml(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"'


@pytest.mark.parametrize(
    "words",
    [
        ["--via", "none", "--via", "http://proxy:1"],
        ["--via", "auto", "--via-password-file", "FILE"],
        ["--via-password-file", "FILE"],
        ["--socks-auth-file", "USERS"],
    ],
)
def test_options_that_do_not_go_together(
    refusal: Refusal, needed: list[str], tmp_path: Path, words: list[str]
) -> None:
    for name, text in (("FILE", "hush\n"), ("USERS", "me:secret\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    words = [str(tmp_path / word) if word.isupper() else word for word in words]
    assert "expected" in refusal("lstp-client-end", *needed, *words)


def test_a_user_without_a_password_is_told_where_to_put_it(
    refusal: Refusal, needed: list[str]
) -> None:
    said = refusal("lstp-client-end", *needed, "--via", "socks5://me@proxy:1")
    assert "--via-password-file" in said


def test_an_identity_that_others_can_read_is_refused(
    refusal: Refusal, needed: list[str], keys: Path, tmp_path: Path
) -> None:
    file = tmp_path / "open.pem"
    file.write_bytes(identity_pem(load_identity(keys / "a.pem")))
    file.chmod(0o640)
    needed[needed.index("--identity") + 1] = str(file)
    assert "chmod 600" in refusal("lstp-client-end", *needed)


@pytest.mark.parametrize("url", ["socks5://me:hush@", "http://me:hush@proxy:99999", "x://a:hush@b"])
def test_a_password_in_a_wrong_url_is_not_repeated(
    refusal: Refusal, needed: list[str], url: str
) -> None:
    assert "hush" not in refusal("lstp-client-end", *needed, "--via", url)


def test_a_file_with_a_password_in_it_must_be_private(
    refusal: Refusal, needed: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "end.toml"
    file.write_text('via = "socks5://me:hush@proxy:1"\n')
    file.chmod(0o644)
    said = refusal("lstp-client-end", *needed, "--config", str(file))
    assert said.startswith(f"{file}:1: key via: ")
    assert "chmod 600" in said
    file.chmod(0o600)
    config = parsed(options_class("lstp-client-end")(), [*needed, *PORT, "--config", str(file)])
    assert isinstance(config.via, tuple)
    assert config.via[0].password == "hush"


@pytest.mark.parametrize("url", ["socks5://me:hush@proxy:1", "http://me:hush@proxy:1"])
def test_a_password_on_the_command_line_is_refused(
    refusal: Refusal, needed: list[str], url: str
) -> None:
    said = refusal("lstp-client-end", *needed, *PORT, "--via", url)
    assert said.startswith("--via: there is a password in it")
    assert "--via-password-file" in said
    assert "hush" not in said


@pytest.mark.parametrize("mode", [0o440, 0o444])
def test_an_identity_as_kubernetes_mounts_it_needs_a_word(
    refusal: Refusal, needed: list[str], keys: Path, tmp_path: Path, mode: int
) -> None:
    file = tmp_path / "mounted.pem"
    file.write_bytes(identity_pem(load_identity(keys / "a.pem")))
    file.chmod(mode)
    words = [*needed, *PORT]
    words[words.index("--identity") + 1] = str(file)
    assert "--identity-mode any" in refusal("lstp-client-end", *words)
    config = parsed(options_class("lstp-client-end")(), [*words, "--identity-mode", "any"])
    assert config.terms.any_mode
    assert "expected private or any" in refusal("lstp-client-end", *words, "--identity-mode", "0")


def test_a_certificate_for_clients_only_needs_a_word(
    refusal: Refusal, needed: list[str], tmp_path: Path
) -> None:
    root = certify("root", ca=True)
    made = credentials(certify("a", root, uses=(CLIENT,)), root)
    file = tmp_path / "corporate.pem"
    file.touch(mode=0o600)
    file.write_bytes(identity_pem(Identity("a", made, bytes(32))))
    words = [*needed, *PORT]
    words[words.index("--identity") + 1] = str(file)
    assert "expected that, or --eku any" in refusal("lstp-client-end", *words)
    config = parsed(options_class("lstp-client-end")(), [*words, "--eku", "any"])
    assert config.identity.credentials.use is KeyUse.ANY
