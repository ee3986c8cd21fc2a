"""What people in company B do in company A: curl, ssh, git, a browser, dig (L2, L10, F4, F5)."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.system.conftest import FORWARDS
from tests.system.crossings import Crossing
from tests.system.laboratory import RESOLVER, WIKI, WIKI_NAME, Laboratory
from tests.system.pictures import Colour, read_png, share
from tests.system.places import Place
from tests.system.services import COLOURS, DNS, HEADING, HTTP, MIB, SSH, Services

SIZE = 16 * MIB
WINDOW = (600, 450)


def fetch(place: Place, *options: object) -> str:
    """The SHA-256 of what curl gets."""
    file = place.directory / f"fetched-{hashlib.sha256(repr(options).encode()).hexdigest()[:12]}"
    place.run(
        ["curl", "--silent", "--show-error", "--fail", "--max-time", 50, "-o", file, *options]
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    file.unlink()
    return digest


def at(forward: tuple[str, int]) -> str:
    return f"{forward[0]}:{forward[1]}"


def test_curl_fetches_through_socks_an_http_proxy_and_a_forward(
    lab: Laboratory, crossing: Crossing, services: Services
) -> None:
    digest = services.add("big", SIZE)
    dropped = lab.counters()
    by_forward = f"http://{at(crossing.forward(FORWARDS.index(HTTP)))}/big"
    ways = [
        ("--socks5", crossing.socks, f"http://{WIKI}/big"),
        ("--socks4", crossing.socks, f"http://{WIKI}/big"),
        ("--socks5-hostname", crossing.socks, f"http://{WIKI_NAME}/big"),
        ("--socks4a", crossing.socks, f"http://{WIKI_NAME}/big"),
        ("--proxy", crossing.http_proxy, f"http://{WIKI_NAME}/big"),
        ("--proxytunnel", "--proxy", crossing.http_proxy, f"http://{WIKI_NAME}/big"),
        (by_forward,),
    ]
    assert [fetch(lab.company_b, *way) for way in ways] == [digest] * len(ways)
    # And at the same time.
    with ThreadPoolExecutor(len(ways)) as pool:
        digests = list(pool.map(lambda way: fetch(lab.company_b, *way), ways))
    assert digests == [digest] * len(ways)
    assert lab.counters() == dropped, "nobody has tried another way than the proxies"


def test_what_the_rules_do_not_name_is_refused(lab: Laboratory, crossing: Crossing) -> None:
    proxy = ("--max-time", 20, "--socks5", crossing.socks)
    refused = lab.company_b.run(["curl", "-sS", *proxy, f"http://{WIKI}:9/"], check=False)
    assert refused.returncode == 97
    assert refused.stderr.strip().endswith("(2)"), refused.stderr


def ssh_options(services: Services, *more: str) -> list[str]:
    """Without asking anybody anything, with the key that is let in."""
    return [
        *("ssh", "-F", "none", "-i", str(services.user_key), "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "LogLevel=ERROR", *more),
    ]


def through_socks(crossing: Crossing) -> tuple[str, str]:
    """The option with which ssh reaches its host, which it does not resolve, through SOCKS."""
    return "-o", f"ProxyCommand=nc.openbsd -X 5 -x {crossing.socks} %h %p"


def test_ssh_through_socks_and_through_a_forward(
    lab: Laboratory, crossing: Crossing, services: Services
) -> None:
    _, port = crossing.forward(FORWARDS.index(SSH))
    text = "line of a document\n" * 100_000
    for way in (
        [*ssh_options(services, *through_socks(crossing)), f"root@{WIKI}"],
        [*ssh_options(services, *through_socks(crossing)), f"root@{WIKI_NAME}"],
        [*ssh_options(services, "-p", str(port)), "root@127.0.0.1"],
    ):
        done = lab.company_b.run(
            [*way, "echo $SSH_CONNECTION; cat; exit 7"], given=text, check=False
        )
        assert done.returncode == 7, done.stderr
        connection, _, copy = done.stdout.partition("\n")
        assert connection.split()[2:] == [WIKI, "22"], "it is company A that we are in"
        assert copy == text


def test_git_clones_over_ssh_and_over_http(
    lab: Laboratory, crossing: Crossing, services: Services, tmp_path: Path
) -> None:
    ssh = " ".join(f"'{word}'" for word in ssh_options(services, *through_socks(crossing)))
    ways = {
        "ssh": (f"core.sshCommand={ssh}", f"root@{WIKI_NAME}:{services.repository}"),
        "http": (f"http.proxy=socks5h://{crossing.socks}", f"http://{WIKI_NAME}/project.git"),
    }
    for name, (setting, address) in ways.items():
        clone = tmp_path / name
        lab.company_b.run(["git", "-c", setting, "clone", "--quiet", address, clone])
        head = lab.company_b.run(["git", "-C", clone, "rev-parse", "HEAD"]).stdout.strip()
        assert head == services.commit
        lab.company_b.run(["git", "-C", clone, "fsck", "--full"])


def test_a_browser_shows_company_a(
    lab: Laboratory, crossing: Crossing, services: Services, output: Path, tmp_path: Path
) -> None:
    picture = output / "chromium-through-socks.png"
    picture.unlink(missing_ok=True)
    browser = [
        *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-breakpad"),
        *("--disable-background-networking", "--no-first-run", f"--user-data-dir={tmp_path}"),
        *("--hide-scrollbars", f"--window-size={WINDOW[0]},{WINDOW[1]}"),
        f"--proxy-server=socks5://{crossing.socks}",
    ]
    page = f"http://{WIKI_NAME}/page.html"
    lab.company_b.run([*browser, f"--screenshot={picture}", page])
    rows = read_png(picture.read_bytes())
    third = len(rows) // 3
    for number, colour in enumerate(COLOURS):
        bar = [
            pixel for row in rows[number * third + 5 : (number + 1) * third - 5] for pixel in row
        ]
        found = share(bar, rgb(colour))
        assert found > 0.75, f"{colour} has {found:.0%} of its third of {picture}"
        # The script has written in the second bar, nobody in the third.
        assert (found < 0.999) == (number < 2)
    browser[-1] = f"--proxy-server=http://{crossing.http_proxy}"
    text = lab.company_b.run([*browser, "--dump-dom", page]).stdout
    assert f"<h1>{HEADING}</h1>" in text


def rgb(colour: str) -> Colour:
    """``#c81e1e`` as numbers."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def test_dig_finds_a_name_that_only_company_a_knows(
    lab: Laboratory, crossing: Crossing, services: Services
) -> None:
    dig = ["dig", "+short", "+tries=1", "+time=5"]
    there = lab.company_a.run([*dig, WIKI_NAME]).stdout
    assert there.split() == [WIKI]
    here = lab.company_b.run([*dig, WIKI_NAME], check=False)
    assert WIKI not in here.stdout
    direct = lab.company_b.run([*dig, "+time=1", f"@{RESOLVER}", WIKI_NAME], check=False)
    assert WIKI not in direct.stdout
    host, port = crossing.resolver
    for how in ("+notcp", "+tcp"):
        asked = lab.company_b.run([*dig, how, f"@{host}", "-p", port, WIKI_NAME]).stdout
        assert asked.split() == [WIKI]
    # And the resolver itself, like any other server.
    host, port = crossing.forward(FORWARDS.index(DNS))
    asked = lab.company_b.run([*dig, "+tcp", f"@{host}", "-p", port, WIKI_NAME]).stdout
    assert asked.split() == [WIKI]
